//! Answers a request as its plan says.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::http::{Head, Request, Stream};
use super::plan::Plan;
use super::{Served, State};

/// How much is sent at once.
const PIECE: u64 = 256 * 1024;

/// Answers; true when the connection can be used on.
pub(crate) fn answer(state: &State, request: &Request, stream: &mut dyn Stream) -> io::Result<bool> {
    let path = request.path();
    let plan = plan(state, &path);
    let number = {
        let mut served = state.served.lock().unwrap();
        served.push(Served {
            request: request.clone(),
            path: path.clone(),
            status: 0,
            sent: 0,
        });
        served.len() - 1
    };
    if let Some(gate) = &plan.gate {
        gate.wait();
    }
    let file = state.tree.join(path.trim_start_matches('/'));
    if let Some(bytes) = &plan.change {
        fs::write(&file, bytes).unwrap();
    }
    let opened = File::open(&file).and_then(|file| Ok((file.metadata()?, file)));
    let mut answer = Answer {
        state,
        plan: &plan,
        number,
        stream,
    };
    match (plan.status, opened) {
        (Some(status), _) => answer.empty(status),
        (None, Ok((meta, file))) if meta.is_file() => answer.file(request, &meta, file),
        _ => answer.empty(404),
    }
}

fn plan(state: &State, path: &str) -> Plan {
    let mut plans = state.plans.lock().unwrap();
    let Some(queue) = plans.get_mut(path) else {
        return Plan::default();
    };
    match queue.front() {
        Some(plan) if plan.stays => plan.clone(),
        _ => queue.pop_front().unwrap_or_default(),
    }
}

struct Answer<'a> {
    state: &'a State,
    plan: &'a Plan,
    number: usize,
    stream: &'a mut dyn Stream,
}

impl Answer<'_> {
    fn empty(&mut self, status: u16) -> io::Result<bool> {
        let mut head = Head::new(status);
        head.set("Content-Length", "0");
        self.head(head)?;
        Ok(true)
    }

    fn head(&mut self, mut head: Head) -> io::Result<()> {
        for (name, value) in &self.plan.headers {
            head.set(name, value.clone());
        }
        self.state.served.lock().unwrap()[self.number].status = head.status;
        head.write(self.stream)
    }

    fn file(&mut self, request: &Request, meta: &fs::Metadata, file: File) -> io::Result<bool> {
        let size = meta.len();
        let changed = meta.modified()?;
        let tag = tag(size, changed);
        let same = request
            .header("if-range")
            .is_none_or(|asked| asked == tag || asked == date(changed));
        let (status, first, end) = match request.range(size) {
            Some((first, _)) if !self.plan.whole && same && first >= size => (416, size, size),
            Some((first, end)) if !self.plan.whole && same => (206, first, end),
            _ => (200, 0, size),
        };
        let mut head = Head::new(status);
        head.set("Accept-Ranges", "bytes");
        head.set("Date", date(SystemTime::now()));
        head.set("ETag", tag);
        head.set("Last-Modified", date(changed));
        match status {
            206 => head.set("Content-Range", format!("bytes {first}-{}/{size}", end - 1)),
            416 => head.set("Content-Range", format!("bytes */{size}")),
            _ => {}
        }
        // Then the body ends with the connection.
        let open = self.plan.endless;
        match open {
            true => head.set("Connection", "close"),
            false => head.set("Content-Length", (end - first).to_string()),
        }
        self.head(head)?;
        if request.method == "HEAD" || status == 416 {
            return Ok(true);
        }
        Ok(self.body(file, first, end)? && !open)
    }

    /// Sends the body; false when it is not whole.
    fn body(&mut self, mut file: File, first: u64, end: u64) -> io::Result<bool> {
        file.seek(SeekFrom::Start(first))?;
        let stop = self.plan.cut.or(self.plan.stall);
        let stop = stop.map_or(u64::MAX, |after| first + after);
        let most = if self.plan.trickle.is_some() { 1 } else { PIECE };
        let mut piece = vec![0; usize::try_from(most).unwrap()];
        let mut at = first;
        loop {
            if self.over() {
                return Ok(false);
            }
            let until = if self.plan.endless { u64::MAX } else { end };
            let length = most.min(until - at).min(stop - at);
            if length == 0 {
                break;
            }
            let piece = &mut piece[..usize::try_from(length).unwrap()];
            let from_file = usize::try_from(end.saturating_sub(at).min(length)).unwrap();
            piece.fill(0);
            file.read_exact(&mut piece[..from_file])?;
            if let Some(place) = self.plan.flip
                && (at..at + length).contains(&place)
            {
                piece[usize::try_from(place - at).unwrap()] ^= 1;
            }
            self.stream.write_all(piece)?;
            at += length;
            self.state.served.lock().unwrap()[self.number].sent += length;
            if let Some(wait) = self.plan.trickle {
                thread::sleep(wait);
            }
        }
        while self.plan.stall.is_some() && !self.over() {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(at == end && stop == u64::MAX)
    }

    fn over(&self) -> bool {
        self.state.over.load(Ordering::Relaxed)
    }
}

fn tag(size: u64, changed: SystemTime) -> String {
    let changed = OffsetDateTime::from(changed).unix_timestamp_nanos();
    format!("\"{size:x}-{changed:x}\"")
}

fn date(time: SystemTime) -> String {
    let format = "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT";
    let format = time::format_description::parse_borrowed::<2>(format).unwrap();
    OffsetDateTime::from(time).format(&format).unwrap()
}
