//! `cp`: a file to the node, or from it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Command, Runner};

use crate::cli::CpArgs;
use crate::cluster::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::progress::{Reporter, Unit};
use crate::remote;

use super::App;

/// A running node answers at once; this is for one that is busy.
const SSH_DEADLINE: Duration = Duration::from_secs(60);

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Host(PathBuf),
    Node(String),
}

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Copy {
    ToNode { from: PathBuf, to: String },
    FromNode { from: String, to: PathBuf },
}

pub(super) fn run(app: &App, args: &CpArgs) -> Result<u8> {
    let name = app.profile()?;
    let copy = plan(&args.source, &args.target, &name)?;
    if let Copy::ToNode { from, .. } = &copy {
        let meta = std::fs::metadata(from).map_err(Error::io(from))?;
        if !meta.is_file() {
            return Err(
                Error::new(Kind::HostPath, format!("{}: is not a file", from.display()))
                    .hint("pack a directory first: tar cf dir.tar dir"),
            );
        }
    }
    let ctx = app.work()?;
    let access = cluster::access(&ctx, &name)?;
    match &access.endpoint.runner {
        Some(runner) => by_runner(&**runner, &copy)?,
        None => by_ssh(app, &ctx, &access.target, &copy)?,
    }
    Ok(0)
}

fn by_ssh(app: &App, ctx: &Context, target: &remote::Target, copy: &Copy) -> Result<()> {
    let session = remote::connect(target, SSH_DEADLINE, &ctx.cancel)?;
    match copy {
        Copy::ToNode { from, to } => {
            let size = std::fs::metadata(from).map(|meta| meta.len()).ok();
            let bar = app.ui.bar(&from.display().to_string(), size, Unit::Bytes);
            session.upload(from, to, 0o644, &*bar)
        }
        Copy::FromNode { from, to } => session.download(from, to, &*app.ui.bar(from, None, Unit::Bytes)),
    }
}

fn by_runner(runner: &dyn Runner, copy: &Copy) -> Result<()> {
    match copy {
        Copy::ToNode { from, to } => {
            let bytes = std::fs::read(from).map_err(Error::io(from))?;
            Ok(runner.write_file(to, 0o644, &bytes)?)
        }
        Copy::FromNode { from, to } => {
            let bytes = runner.run(&Command::new("cat").arg(from))?.stdout;
            std::fs::write(to, bytes).map_err(Error::io(to))
        }
    }
}

/// Reads both sides by minikube's rules: `node:/path` is on the node, and of two plain paths the target is.
fn plan(source: &str, target: &str, node: &str) -> Result<Copy> {
    let copy = match (side(source, node)?, side(target, node)?) {
        (Side::Host(from), Side::Node(to)) => Copy::ToNode {
            to: file_in(&to, &from),
            from,
        },
        (Side::Host(from), Side::Host(to)) => {
            let to = to.to_string_lossy().into_owned();
            Copy::ToNode {
                to: file_in(&to, &from),
                from,
            }
        }
        (Side::Node(from), Side::Host(to)) => {
            let text = to.to_string_lossy();
            let into = if to.is_dir() && !text.ends_with('/') {
                format!("{text}/")
            } else {
                text.into_owned()
            };
            Copy::FromNode {
                to: file_in(&into, Path::new(&from)).into(),
                from,
            }
        }
        (Side::Node(_), Side::Node(_)) => {
            return Err(Error::new(Kind::Usage, "both paths are on the node")
                .hint(format!("copy there: sampan -p {node} ssh -- cp SOURCE TARGET")));
        }
    };
    let on_node = match &copy {
        Copy::ToNode { to, .. } => to,
        Copy::FromNode { from, .. } => from,
    };
    if !on_node.starts_with('/') {
        return Err(Error::new(
            Kind::Usage,
            format!("`{on_node}` is not an absolute path on the node"),
        )
        .hint(format!("write it as {node}:/path/of/file")));
    }
    Ok(copy)
}

/// A path, with `NODE:` before it when it is on the node. A name before the colon that holds a slash is part of the path.
fn side(text: &str, node: &str) -> Result<Side> {
    match text.split_once(':') {
        Some((name, path)) if !name.contains('/') && !name.is_empty() => {
            if name != node && name != "m01" {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("cluster \"{node}\" has no node \"{name}\""),
                )
                .hint(format!(
                    "its one node is called \"{node}\"; a file of that name is ./{text}"
                )));
            }
            Ok(Side::Node(path.to_owned()))
        }
        _ => Ok(Side::Host(text.into())),
    }
}

/// A target that ends in "/" takes the name of the source.
fn file_in(target: &str, source: &Path) -> String {
    match source.file_name() {
        Some(name) if target.ends_with('/') => format!("{target}{}", name.to_string_lossy()),
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_by_minikubes_rules() {
        let to = |from: &str, to: &str| Copy::ToNode {
            from: from.into(),
            to: to.to_owned(),
        };
        assert_eq!(plan("a.txt", "n:/tmp/b", "n").unwrap(), to("a.txt", "/tmp/b"));
        assert_eq!(
            plan("d/a.txt", "/tmp/", "n").unwrap(),
            to("d/a.txt", "/tmp/a.txt")
        );
        assert_eq!(plan("./a:b", "/tmp/x", "n").unwrap(), to("./a:b", "/tmp/x"));
        assert_eq!(
            plan("n:/etc/hosts", "sub/", "n").unwrap(),
            Copy::FromNode {
                from: "/etc/hosts".into(),
                to: "sub/hosts".into()
            }
        );
        for (source, target, kind) in [
            ("a", "relative", Kind::Usage),
            ("a", "n:relative", Kind::Usage),
            ("n:/a", "n:/b", Kind::Usage),
            ("a", "other:/b", Kind::NotFound),
        ] {
            assert_eq!(
                plan(source, target, "n").unwrap_err().kind(),
                kind,
                "{source} {target}"
            );
        }
    }
}
