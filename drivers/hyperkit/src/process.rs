//! The hyperkit process of a machine. It is recognised by its command line, which names the machine's pidfile by its absolute path; what
//! follows it there is always `-c`. A user may signal a hyperkit that is root by its set-user-id bit, as it is still the user who runs it.

use std::path::Path;

use sampan_driver::Result;
use sampan_driver::process::Mark;

pub(crate) use sampan_driver::process::{Process, Signal, Starting};

use crate::files;

/// The process that runs the machine in this directory, which may be gone itself.
pub(crate) fn find(dir: &Path) -> Result<Option<Process>> {
    let pidfile = files::real(dir).join(files::PIDFILE);
    let mark = Mark::new(["-F", &pidfile.to_string_lossy(), "-c"]);
    Process::find(&mark, Some(&pidfile))
}
