# Runs a command that must not outlive the sampan that started it. Standard input is a pipe from there: it closes when that
# process ends, however it ends, and then the whole process group (the command and all its children) is told to end.
exec 3<&0 </dev/null
(
	read -r _ <&3
	trap '' TERM
	kill -TERM 0
) &
exec "$@" 3<&-
