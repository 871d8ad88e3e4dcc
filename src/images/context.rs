//! The context of a build as an archive: what a directory has, without what its .dockerignore names.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Parts;
use super::dockerignore::Ignore;
use super::parts::file_header;
use crate::error::{Error, Kind, Result};

/// The name of a Dockerfile that is not in the context, in the archive.
const OUTSIDE: &str = ".sampan.Dockerfile";

/// Collects a directory. `dockerfile` is relative to it or to where the user is, "Dockerfile" when none is said. Gives the archive and
/// the Dockerfile's name in it.
///
/// # Errors
/// [`Kind::HostPath`] when the directory or the Dockerfile is missing or something cannot be read; [`Kind::Usage`] for a damaged
/// .dockerignore.
pub fn collect(dir: &Path, dockerfile: Option<&Path>) -> Result<(Parts, String)> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(
                Error::new(Kind::HostPath, format!("{}: is not a directory", dir.display()))
                    .hint("name the directory with the Dockerfile"),
            );
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::new(
                Kind::HostPath,
                format!("{}: there is no such directory", dir.display()),
            )
            .hint("name the directory with the Dockerfile"));
        }
        Err(error) => return Err(Error::io(dir)(error)),
    }
    let (file, name) = find(dir, dockerfile)?;
    let ignore = read_ignore(dir, &file)?;
    let mut parts = Parts::default();
    let always = [".dockerignore", name.as_deref().unwrap_or_default()];
    add(&mut parts, dir, "", &ignore, &always)?;
    let name = match name {
        Some(name) => name,
        None => {
            parts.entry(OUTSIDE, fs::read(&file).map_err(Error::io(&file))?)?;
            OUTSIDE.to_owned()
        }
    };
    parts.close();
    Ok((parts, name))
}

/// A context that is only a Dockerfile.
///
/// # Errors
/// None that the contents can cause.
pub fn only(dockerfile: Vec<u8>) -> Result<Parts> {
    let mut parts = Parts::default();
    parts.entry("Dockerfile", dockerfile)?;
    parts.close();
    Ok(parts)
}

/// The Dockerfile and its name in the context, if it is there.
fn find(dir: &Path, dockerfile: Option<&Path>) -> Result<(PathBuf, Option<String>)> {
    let said = dockerfile.unwrap_or(Path::new("Dockerfile"));
    let inside = dir.join(said);
    let file = match dockerfile {
        // As docker has it: relative to where the user is; as minikube has it: to the context.
        Some(path) if path.is_file() => path.to_owned(),
        _ if inside.is_file() => inside,
        _ => {
            return Err(Error::new(
                Kind::HostPath,
                format!("{}: there is no Dockerfile", inside.display()),
            )
            .hint("say where it is with -f"));
        }
    };
    let real = |path: &Path| fs::canonicalize(path).map_err(Error::io(path));
    let (context, whole) = (real(dir)?, real(&file)?);
    let name = whole
        .strip_prefix(&context)
        .ok()
        .map(|name| name.to_string_lossy().into_owned());
    Ok((file, name))
}

/// The patterns of the Dockerfile's own file, else of the context's.
fn read_ignore(dir: &Path, dockerfile: &Path) -> Result<Ignore> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), dir.join(".dockerignore")] {
        match fs::read_to_string(&path) {
            Ok(text) => return Ignore::parse(&text, &path),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&path)(error)),
        }
    }
    Ok(Ignore::default())
}

/// Adds what is in a directory; `below` is its name in the context.
fn add(parts: &mut Parts, root: &Path, below: &str, ignore: &Ignore, always: &[&str]) -> Result<()> {
    let dir = root.join(below);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).map_err(Error::io(&dir))? {
        names.push(entry.map_err(Error::io(&dir))?.file_name());
    }
    // The same context is the same archive, so that Docker finds what it built before.
    names.sort();
    for file_name in names {
        let path = dir.join(&file_name);
        let text = file_name.to_string_lossy();
        let name = if below.is_empty() {
            text.into_owned()
        } else {
            format!("{below}/{text}")
        };
        let ignored = ignore.ignores(&name) && !always.contains(&name.as_str());
        let meta = fs::symlink_metadata(&path).map_err(Error::io(&path))?;
        if meta.is_dir() {
            if !ignored {
                parts.header(
                    &mut header(&meta, tar::EntryType::Directory, 0),
                    Path::new(&name),
                    None,
                )?;
            }
            let wanted = |path: &&str| path.starts_with(&format!("{name}/"));
            if !ignored || ignore.takes_back() || always.iter().any(wanted) {
                add(parts, root, &name, ignore, always)?;
            }
        } else if ignored {
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).map_err(Error::io(&path))?;
            parts.header(
                &mut header(&meta, tar::EntryType::Symlink, 0),
                Path::new(&name),
                Some(&target),
            )?;
        } else if meta.is_file() {
            // What cannot be read shall not be found in the middle of sending.
            drop(fs::File::open(&path).map_err(Error::io(&path))?);
            parts.header(
                &mut header(&meta, tar::EntryType::Regular, meta.len()),
                Path::new(&name),
                None,
            )?;
            parts.path(path, meta.len());
            parts.pad(meta.len());
        }
    }
    Ok(())
}

fn header(meta: &fs::Metadata, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = file_header(size);
    header.set_entry_type(kind);
    header.set_mode(meta.permissions().mode() & 0o7777);
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or_default());
    header
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn names(mut parts: Parts) -> BTreeMap<String, String> {
        let length = parts.length();
        let mut bytes = Vec::new();
        parts.read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.len() as u64, length % 512), (length, 0));
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        entries.collect()
    }

    #[test]
    fn a_context_is_what_is_not_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("deep/{}/file", "d".repeat(150));
        for (path, text) in [
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*\n!keep\n!deep\nkeep/secret\n"),
            ("keep/a", "A"),
            ("keep/secret", "S"),
            ("other", "O"),
            (long.as_str(), "long"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("../outside", dir.path().join("keep/link")).unwrap();
        let (parts, dockerfile) = collect(dir.path(), None).unwrap();
        assert_eq!(dockerfile, "Dockerfile");
        let all = names(parts);
        assert_eq!(all.get("keep/a").unwrap(), "A");
        assert_eq!(all.get(&long).unwrap(), "long");
        let seen: Vec<&str> = all.keys().map(|name| name.trim_end_matches('/')).collect();
        assert!(
            seen.contains(&"keep/link") && seen.contains(&"Dockerfile") && seen.contains(&".dockerignore")
        );
        assert!(
            !seen.contains(&"other") && !seen.contains(&"keep/secret"),
            "{seen:?}"
        );
    }

    #[test]
    fn a_dockerfile_may_be_elsewhere_and_must_be_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let context = dir.path().join("context");
        fs::create_dir(&context).unwrap();
        let error = collect(&context, None).map(|_| ()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("context/Dockerfile: there is no Dockerfile"),
            "{error}"
        );
        let other = dir.path().join("Other");
        fs::write(&other, "FROM scratch").unwrap();
        let (parts, name) = collect(&context, Some(&other)).unwrap();
        assert_eq!(names(parts).get(&name).unwrap(), "FROM scratch");
        let error = collect(&dir.path().join("none"), None).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().ends_with("none: there is no such directory"),
            "{error}"
        );
        assert!(collect(&other, None).is_err());
    }
}
