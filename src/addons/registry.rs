//! Which addons there are: sampan's own in the bundle, a user's in the directory of settings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Options;
use super::manifest::About;
use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, Layout};
use crate::settings::{self, did_you_mean, nearest};

/// Whose addon it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It came with the bundle.
    Bundle,
    /// The user put it there.
    User,
}

/// One addon.
#[derive(Debug, Clone)]
pub struct Addon {
    /// Its name: that of its directory.
    pub name: String,
    /// Whose it is.
    pub origin: Origin,
    /// What it is.
    pub about: About,
    dir: PathBuf,
}

impl Addon {
    /// Names and texts of its manifests, in the order of their names.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn templates(&self) -> Result<Vec<(String, String)>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(Error::io(&self.dir))? {
            paths.push(entry.map_err(Error::io(&self.dir))?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
            Ok((path.display().to_string(), text))
        };
        paths.into_iter().map(read).collect()
    }

    /// Says no to options that the addon does not have.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub fn check(&self, options: &Options) -> Result<()> {
        let names: Vec<&str> = self.about.options.keys().map(String::as_str).collect();
        let Some(wrong) = options.keys().find(|name| !names.contains(&name.as_str())) else {
            return Ok(());
        };
        if names.is_empty() {
            let message = format!("the addon {} has nothing to configure", self.name);
            return Err(Error::new(Kind::Usage, message).hint("`sampan addons enable` is all it needs"));
        }
        let message = format!("the addon {} has no option `{wrong}`", self.name);
        Err(Error::new(Kind::Usage, message).hint(did_you_mean(wrong, &names)))
    }
}

/// All addons.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    addons: BTreeMap<String, Addon>,
    /// Directories of the user's that are no addons: name and why.
    troubles: BTreeMap<String, String>,
}

impl Registry {
    /// The addons of a bundle and the user's own.
    ///
    /// # Errors
    /// [`Kind::Bundle`] when one in the bundle is damaged; the I/O error with the path.
    pub fn load(bundle: &BundleLayout, layout: &Layout) -> Result<Self> {
        let mut registry = Self::default();
        for name in directories(&bundle.addons())? {
            let addon = read(&bundle.addons(), &name, Origin::Bundle)
                .map_err(|why| Error::new(Kind::Bundle, why).hint("`sampan bundle build` makes it again"))?;
            registry.addons.insert(name, addon);
        }
        registry.add_users(&layout.addons())?;
        Ok(registry)
    }

    fn add_users(&mut self, dir: &Path) -> Result<()> {
        for name in directories(dir)? {
            let place = dir.join(&name);
            let addon = if self.addons.contains_key(&name) {
                Err(format!(
                    "{}: sampan has an addon {name} of its own",
                    place.display()
                ))
            } else if let Err(what) = settings::label(&name) {
                Err(format!("{}: the name {what}", place.display()))
            } else {
                read(dir, &name, Origin::User)
            };
            match addon {
                Ok(addon) => drop(self.addons.insert(name, addon)),
                Err(why) => drop(self.troubles.insert(name, why)),
            }
        }
        Ok(())
    }

    /// All of them, in the order of their names.
    pub fn addons(&self) -> impl Iterator<Item = &Addon> {
        self.addons.values()
    }

    /// What is wrong with directories of the user's.
    pub fn troubles(&self) -> impl Iterator<Item = &str> {
        self.troubles.values().map(String::as_str)
    }

    /// The addon of a name.
    ///
    /// # Errors
    /// [`Kind::Usage`] without one, with the nearest name; [`Kind::HostConfig`] for a directory of the user's that cannot be used;
    /// [`Kind::Unimplemented`] for one that is coming.
    pub fn find(&self, name: &str) -> Result<&Addon> {
        if let Some(why) = self.troubles.get(name) {
            return Err(Error::new(Kind::HostConfig, why.clone())
                .hint("rename the directory, or mend what is in it; `sampan addons list` tells which addons there are"));
        }
        let addon = self.addons.get(name).ok_or_else(|| {
            let names = self.addons.keys().map(String::as_str);
            let error = Error::new(Kind::Usage, format!("there is no addon \"{name}\""));
            let error = match nearest(name, names) {
                Some(nearest) => error.hint(format!("did you mean `{nearest}`?")),
                None => error,
            };
            error.hint("`sampan addons list` tells which there are")
        })?;
        if addon.about.coming {
            let message = format!("the addon {name} is not there yet");
            let error = Error::new(Kind::Unimplemented, message);
            return Err(error.hint("see the cluster with `kubectl get all -A` meanwhile"));
        }
        Ok(addon)
    }
}

/// Names of the directories in a directory, sorted; none when it is not there.
fn directories(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        names.extend(
            name.filter(|name| path.is_dir() && !name.starts_with('.'))
                .map(str::to_owned),
        );
    }
    names.sort();
    Ok(names)
}

fn read(root: &Path, name: &str, origin: Origin) -> Result<Addon, String> {
    let dir = root.join(name);
    let path = dir.join("addon.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let about: About =
        toml::from_str(&text).map_err(|error| format!("{}: {}", path.display(), error.message()))?;
    Ok(Addon {
        name: name.to_owned(),
        origin,
        about,
        dir,
    })
}

/// An addon of this name with nothing in it.
#[cfg(test)]
pub(super) fn tests_addon(name: &str) -> Addon {
    Addon {
        name: name.to_owned(),
        origin: Origin::User,
        about: About::default(),
        dir: PathBuf::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::under(dir.path());
        let bundle = BundleLayout(dir.path().join("bundle"));
        let add = |root: &Path, name: &str, text: &str| {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("addon.toml"), text).unwrap();
            fs::write(root.join(name).join("b.yaml"), "b").unwrap();
            fs::write(root.join(name).join("a.yaml"), "a").unwrap();
        };
        let fine = "description = 'x'\noptions = { size = '1' }";
        add(&bundle.addons(), "ingress", fine);
        add(&bundle.addons(), "plain", "description = 'y'");
        add(&bundle.addons(), "dashboard", "description = 'z'\ncoming = true");
        add(&layout.addons(), "mine", fine);
        add(&layout.addons(), "ingress", fine);
        add(&layout.addons(), "damaged", "description = 1");
        let registry = Registry::load(&bundle, &layout).unwrap();
        (dir, registry)
    }

    #[test]
    fn both_places_are_known_and_what_is_wrong_is_told() {
        let (_dir, registry) = registry();
        let names: Vec<_> = registry
            .addons()
            .map(|addon| (addon.name.as_str(), addon.origin))
            .collect();
        assert_eq!(
            names,
            [
                ("dashboard", Origin::Bundle),
                ("ingress", Origin::Bundle),
                ("mine", Origin::User),
                ("plain", Origin::Bundle)
            ]
        );
        assert_eq!(registry.troubles().count(), 2);
        for (name, kind, word) in [
            ("ingress", Kind::HostConfig, "of its own"),
            ("damaged", Kind::HostConfig, "addon.toml"),
            ("dashboard", Kind::Unimplemented, "not there yet"),
            ("mnie", Kind::Usage, "no addon"),
        ] {
            let error = registry.find(name).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!(
            registry.find("mnie").unwrap_err().hints()[0],
            "did you mean `mine`?"
        );
    }

    #[test]
    fn manifests_come_in_the_order_of_their_names_and_options_are_checked() {
        let (_dir, registry) = registry();
        let mine = registry.find("mine").unwrap();
        let texts: Vec<_> = mine
            .templates()
            .unwrap()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["a", "b"]);
        let option = |name: &str| Options::from([(name.to_owned(), "2".to_owned())]);
        assert!(mine.check(&option("size")).is_ok());
        assert_eq!(
            mine.check(&option("sise")).unwrap_err().hints()[0],
            "did you mean `size`?"
        );
        let plain = registry.find("plain").unwrap();
        assert!(
            plain
                .check(&option("size"))
                .unwrap_err()
                .to_string()
                .contains("nothing")
        );
    }
}
