//! The driver's side of the protocol, for drivers that are written in Rust.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use sampan_driver::{Driver, DriverError, PortForward, Result};
use serde::Serialize;
use serde_json::Value;

use crate::protocol::{Answer, Call, Description, Healthy, Kind, Reach, Request, State, Trouble, VERSION};

/// Reads one request, lets the driver that `make` makes (given the directory for what it remembers) do it, and writes the answer. A
/// `sampan-driver-NAME` is a `main` that calls this with its standard streams.
///
/// # Errors
/// When the answer cannot be written. All else is in the answer.
pub fn serve<D: Driver>(
    make: impl FnOnce(&Path) -> D,
    mut input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    let done = match request(&text) {
        Ok(request) => dispatch(&make(&request.cache), &request.call).map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    let (result, error) = match done {
        Ok(result) => (result, None),
        Err(trouble) => (Value::Null, Some(trouble)),
    };
    let answer = Answer {
        protocol: VERSION,
        result,
        error,
    };
    serde_json::to_writer(&mut output, &answer)?;
    output.write_all(b"\n")?;
    output.flush()
}

fn request(text: &str) -> Result<Request, Trouble> {
    let trouble = |message: String| Trouble {
        kind: Kind::Unsupported,
        message,
        hint: "use a sampan and a driver of the same time".to_owned(),
        port: None,
    };
    let value: Value = serde_json::from_str(text).map_err(|error| trouble(format!("no request: {error}")))?;
    let version = value.get("protocol").and_then(Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        let asked = version.map_or("an unknown version".to_owned(), |version| {
            format!("version {version}")
        });
        return Err(trouble(format!(
            "the driver speaks version {VERSION} of the protocol and was asked in {asked}"
        )));
    }
    serde_json::from_value(value).map_err(|error| trouble(format!("no request of this version: {error}")))
}

fn dispatch(driver: &dyn Driver, call: &Call) -> Result<Value> {
    match call {
        Call::Describe => value(Description::from(driver.features())),
        Call::Check => value(Healthy::from(driver.check()?)),
        Call::Create { spec } => value(driver.create(spec)?),
        Call::Start { spec } => value(driver.start(spec)?),
        Call::Stop { spec, deadline_ms } => value(driver.stop(spec, Duration::from_millis(*deadline_ms))?),
        Call::Kill { spec } => value(driver.kill(spec)?),
        Call::Remove { spec } => value(driver.remove(spec)?),
        Call::State { spec } => value(State::from(driver.state(spec)?)),
        Call::Trouble { spec } => value(driver.trouble(spec)?),
        Call::Endpoint { spec } => {
            let endpoint = driver.endpoint(spec)?;
            value(Reach {
                forwards: endpoint.forwards,
                serial_log: endpoint.serial_log,
                pid: endpoint.pid,
            })
        }
        Call::ForwardAdd { spec, forward } => value(publishing(driver)?.add(spec, forward)?),
        Call::ForwardRemove { spec, forward } => value(publishing(driver)?.remove(spec, forward)?),
        Call::ForwardList { spec } => value(publishing(driver)?.list(spec)?),
    }
}

fn publishing(driver: &dyn Driver) -> Result<&dyn PortForward> {
    driver.port_forward().ok_or_else(|| DriverError::Unsupported {
        what: format!(
            "the driver {} cannot publish ports of a running machine",
            driver.name()
        ),
        hint: "its features say so: `sampan driver list`".to_owned(),
    })
}

fn value(result: impl Serialize) -> Result<Value> {
    serde_json::to_value(result).map_err(|error| DriverError::Failed {
        name: "answer".to_owned(),
        what: error.to_string(),
    })
}
