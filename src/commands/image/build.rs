//! `image build`.

use std::io::{IsTerminal, Read};
use std::path::Path;

use reqwest::blocking::Body;
use serde_json::{Map, Value};

use crate::cli::image::ImageVerb;
use crate::error::{Error, Kind, Result};
use crate::images::{Engine, Parts, context};

use super::{App, push, tell};

pub(super) fn build(app: &App, engine: &Engine, verb: &ImageVerb) -> Result<()> {
    let ImageVerb::Build {
        context,
        tag,
        file,
        build_env,
        build_opt,
        push: is_pushed,
        ..
    } = verb
    else {
        return Ok(());
    };
    if *is_pushed && tag.is_empty() {
        return Err(Error::new(Kind::Usage, "--push needs the image's name").hint("give it with -t"));
    }
    let mut query = options(build_env, build_opt)?;
    query.extend(tag.iter().map(|tag| ("t", tag.clone())));
    let body = source(context, file.as_deref(), &mut query)?;
    engine
        .build(&query, body, &mut |said| tell(app, said))
        .map_err(|error| {
            if error.kind() == Kind::Storage {
                return error;
            }
            Error::new(Kind::Guest, "the build failed")
                .because(error)
                .hint("what Docker said stands above")
        })?;
    if *is_pushed {
        tag.iter().try_for_each(|tag| push(app, engine, tag))?;
    }
    Ok(())
}

/// What is sent, and what says where the Dockerfile is.
fn source(
    context: &str,
    file: Option<&Path>,
    query: &mut Vec<(&'static str, String)>,
) -> Result<Option<Body>> {
    let mut named = |name: String| query.push(("dockerfile", name));
    if ["http://", "https://", "git://", "git@", "github.com/"]
        .iter()
        .any(|start| context.starts_with(start))
    {
        if let Some(file) = file {
            named(file.to_string_lossy().into_owned());
        }
        query.push(("remote", context.to_owned()));
        return Ok(None);
    }
    let body = |parts: Parts| {
        let length = parts.length();
        Body::sized(parts, length)
    };
    if context != "-" {
        let (parts, name) = context::collect(Path::new(context), file)?;
        named(name);
        return Ok(Some(body(parts)));
    }
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return Err(Error::new(
            Kind::Usage,
            "standard input is a terminal, not a Dockerfile or an archive",
        )
        .hint("`sampan image build - < Dockerfile`"));
    }
    let mut start = Vec::new();
    let read = |error| Error::io(Path::new("standard input"))(error);
    Read::by_ref(&mut input)
        .take(512)
        .read_to_end(&mut start)
        .map_err(read)?;
    let packed: [&[u8]; 4] = [
        &[0x1f, 0x8b],
        b"BZh",
        &[0xfd, b'7', b'z'],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    let is_archive =
        start.get(257..262) == Some(b"ustar") || packed.iter().any(|magic| start.starts_with(magic));
    if is_archive {
        if let Some(file) = file {
            named(file.to_string_lossy().into_owned());
        }
        return Ok(Some(Body::new(std::io::Cursor::new(start).chain(input))));
    }
    input.read_to_end(&mut start).map_err(read)?;
    Ok(Some(body(context::only(start)?)))
}

/// minikube's --build-env and --build-opt in the words of Docker's API.
fn options(env: &[String], options: &[String]) -> Result<Vec<(&'static str, String)>> {
    let mut arguments = Map::new();
    let mut add = |text: &str| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            arguments.insert(name.to_owned(), Value::from(value));
            Ok(())
        }
        _ => Err(Error::new(Kind::Usage, format!("{text:?} is not NAME=VALUE"))
            .hint("as in --build-env VERSION=1.2")),
    };
    env.iter().try_for_each(|text| add(text))?;
    let mut query = vec![("rm", "1".to_owned()), ("forcerm", "1".to_owned())];
    for option in options {
        let option = option.trim_start_matches('-');
        match option.split_once('=').unwrap_or((option, "")) {
            ("no-cache", "" | "true") => query.push(("nocache", "1".to_owned())),
            ("pull", "" | "true") => query.push(("pull", "1".to_owned())),
            ("target", stage) => query.push(("target", stage.to_owned())),
            ("platform", platform) => query.push(("platform", platform.to_owned())),
            ("build-arg", argument) => add(argument)?,
            _ => {
                return Err(Error::new(Kind::Unimplemented, format!("--build-opt {option} is not there yet"))
                    .hint("there is no-cache, pull, target, platform and build-arg; docker build has all, after `eval $(sampan docker-env)`"));
            }
        }
    }
    query.push(("buildargs", Value::Object(arguments).to_string()));
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_dockers_own() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let query = options(
            &texts(&["A=1=2"]),
            &texts(&["no-cache", "--target=final", "build-arg=B=3"]),
        )
        .unwrap();
        let value = |name: &str| {
            query
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(value("nocache"), Some("1"));
        assert_eq!(value("target"), Some("final"));
        assert_eq!(value("buildargs"), Some(r#"{"A":"1=2","B":"3"}"#));
        assert_eq!(options(&texts(&["A"]), &[]).unwrap_err().kind(), Kind::Usage);
        assert_eq!(
            options(&[], &texts(&["squash"])).unwrap_err().kind(),
            Kind::Unimplemented
        );
    }
}
