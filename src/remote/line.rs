//! The shell lines that commands become, and the process id they tell, by which an overdue command is ended.

use sampan_driver::{Command, Stream};

/// Opens the line of standard error on which the guest's shell tells its process id; never seen by callers.
const MARK: &[u8] = b"\x01sampan-pid ";

/// A line for the guest's login shell that becomes the described command.
pub(super) fn of(command: &Command) -> String {
    let mut line = String::new();
    for (key, value) in &command.env {
        line.push_str(&format!("export {key}={}; ", quote(value)));
    }
    line.push_str("exec ");
    line.push_str(&quote(&command.program));
    for arg in &command.args {
        line.push(' ');
        line.push_str(&quote(arg));
    }
    line
}

/// Quotes one word for a POSIX shell; a NUL byte, which no argument can hold, is dropped.
pub(super) fn quote(word: &str) -> String {
    match shlex::try_quote(word) {
        Ok(quoted) => quoted.into_owned(),
        Err(_) => quote(&word.replace('\0', "")),
    }
}

/// Lets the shell tell its process id first. sshd makes it the leader of a process group, so the number reaches all that it starts.
pub(super) fn telling_pid(line: &str) -> String {
    format!("printf '\\001sampan-pid %s\\n' $$ >&2; {line}")
}

/// A line that ends a process group: asked first, forced after two seconds.
pub(super) fn ending(pid: u32) -> String {
    format!(
        "kill -TERM -- -{pid} 2>/dev/null; i=0; while kill -0 -- -{pid} 2>/dev/null; do \
         i=$((i+1)); [ $i -le 20 ] || {{ kill -KILL -- -{pid} 2>/dev/null; break; }}; sleep 0.1; done"
    )
}

/// Takes the line with the process id out of standard error.
#[derive(Debug, Default)]
pub(super) struct PidFilter {
    /// The process id, once told.
    pub(super) pid: Option<u32>,
    pending: Vec<u8>,
}

impl PidFilter {
    /// Passes output on without our line.
    pub(super) fn pass(&mut self, stream: Stream, bytes: &[u8], on_output: &mut dyn FnMut(Stream, &[u8])) {
        if stream == Stream::Stdout || self.pid.is_some() {
            return on_output(stream, bytes);
        }
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.pid = pid(&line);
            if self.pid.is_some() {
                return self.finish(on_output);
            }
            on_output(Stream::Stderr, &line);
        }
    }

    /// Passes on what was held back.
    pub(super) fn finish(&mut self, on_output: &mut dyn FnMut(Stream, &[u8])) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            on_output(Stream::Stderr, &rest);
        }
    }
}

fn pid(line: &[u8]) -> Option<u32> {
    std::str::from_utf8(line.strip_prefix(MARK)?)
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|&pid| pid > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(pieces: &[&str]) -> (Option<u32>, String) {
        let mut filter = PidFilter::default();
        let mut seen = Vec::new();
        for piece in pieces {
            filter.pass(Stream::Stderr, piece.as_bytes(), &mut |_, bytes| {
                seen.extend_from_slice(bytes)
            });
        }
        filter.finish(&mut |_, bytes| seen.extend_from_slice(bytes));
        (filter.pid, String::from_utf8(seen).unwrap())
    }

    #[test]
    fn the_process_id_is_taken_out_wherever_it_is_cut() {
        assert_eq!(
            filtered(&["\x01sampan-pid 42\nerr\n"]),
            (Some(42), "err\n".into())
        );
        assert_eq!(
            filtered(&["\x01samp", "an-pid 4", "2\ner", "r"]),
            (Some(42), "err".into())
        );
        assert_eq!(
            filtered(&["motd\n\x01sampan-pid 7\n"]),
            (Some(7), "motd\n".into())
        );
        assert_eq!(filtered(&["no such shell"]), (None, "no such shell".into()));
        assert_eq!(
            filtered(&["\x01sampan-pid 1\n"]).0,
            None,
            "init is never ours to end"
        );
    }

    #[test]
    fn a_command_becomes_one_line() {
        let command = Command::new("/opt/my prog")
            .args(["a'b", "$HOME", ""])
            .env("A", "x y");
        assert_eq!(
            of(&command),
            "export A='x y'; exec '/opt/my prog' \"a'b\" '$HOME' ''"
        );
    }
}
