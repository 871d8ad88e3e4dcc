# The last lines of every container's log, a title before each. $1: how many lines.
for file in /var/log/pods/kube-system_*/*/*.log; do
    [ -e "$file" ] || continue
    container=${file%/*}
    pod=${container%/*}
    pod=${pod##*/kube-system_}
    echo "==> ${container##*/} [${pod%%_*}] <=="
    tail -n "$1" "$file"
    echo
done
