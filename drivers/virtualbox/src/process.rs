//! The process of a running machine: `VBoxHeadless … --startvm UUID …`, looked for in the list of all.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sampan_driver::{Command, Host, Result, Runner};

/// The process that runs a machine; none when there is none.
pub(crate) fn find(uuid: &str) -> Result<Option<u32>> {
    let list = Command::new("ps")
        .args(["-axww", "-o", "pid=,command="])
        .deadline(Duration::from_secs(10));
    Ok(among(&Host.run(&list)?.text(), uuid))
}

fn among(list: &str, uuid: &str) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        let program = words.next()?.rsplit('/').next()?;
        let mut words = words.skip_while(|word| *word != "--startvm");
        (program.starts_with("VBox") && words.nth(1)? == uuid).then_some(pid)
    })
}

/// Ends the process of a machine that VirtualBox cannot end.
pub(crate) fn kill(uuid: &str) -> Result<()> {
    let pid = find(uuid)?.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        tracing::warn!(%uuid, pid = pid.as_raw_nonzero().get(), "the machine's process is killed");
        // It may have ended by itself; whoever asked looks at the machine's state next.
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_own_process_is_its() {
        let list = "    1 /sbin/init\n\
                    71 /usr/lib/virtualbox/VBoxHeadless --comment sampan-x --startvm 11-22 --vrde config\n\
                    72 /usr/lib/virtualbox/VBoxHeadless --comment sampan-y --startvm 33-44 --vrde config\n\
                    73 grep --startvm 55-66\n\
                    74 VBoxManage startvm 55-66";
        assert_eq!(among(list, "33-44"), Some(72));
        assert_eq!(among(list, "55-66"), None);
    }
}
