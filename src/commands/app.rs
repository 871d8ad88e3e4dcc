//! What every verb has: output, the flags of all verbs, and the way to the library.

use std::sync::Arc;

use crate::cli::Global;
use crate::cluster::{self, Context};
use crate::error::Result;
use crate::layout::Layout;
use crate::progress::{Cancel, Reporter, StepEnd, StepInfo};
use crate::settings::{self, Choices, ConfigFile, Settings};
use crate::ui::Ui;

use super::host;

/// The cluster that is meant when nobody names one.
const DEFAULT_PROFILE: &str = "sampan";

/// One run of the program.
pub struct App {
    /// Output.
    pub ui: Ui,
    global: Global,
    cancel: Cancel,
}

impl App {
    /// A run with this output and these flags.
    pub fn new(ui: Ui, global: Global) -> Self {
        Self {
            ui,
            global,
            cancel: Cancel::default(),
        }
    }

    /// Where things are on disk.
    ///
    /// # Errors
    /// When there is no home directory.
    pub fn layout(&self) -> Result<Layout> {
        host::layout()
    }

    /// What the library needs. From here on Ctrl-C asks the work to stop instead of ending the process.
    ///
    /// # Errors
    /// When there is no home directory.
    pub fn work(&self) -> Result<Context> {
        super::signals::listen(&self.cancel, &self.ui);
        self.context()
    }

    /// What the library needs, for verbs that Ctrl-C may simply end.
    ///
    /// # Errors
    /// When there is no home directory.
    pub fn context(&self) -> Result<Context> {
        Ok(Context {
            layout: host::layout()?,
            reporter: Arc::new(self.ui.clone()),
            cancel: self.cancel.clone(),
            drivers: host::drivers()?,
            kubeconfig: host::kubeconfig()?,
        })
    }

    /// Does the one step of a verb: its name for scripts and its title for people.
    ///
    /// # Errors
    /// Those of the work.
    pub fn step<T>(
        &self,
        name: &'static str,
        title: &'static str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let step = StepInfo {
            number: 1,
            total: 1,
            name,
            title,
        };
        self.ui.step_begin(step);
        let result = work();
        let end = if result.is_ok() {
            StepEnd::Done
        } else {
            StepEnd::Failed
        };
        self.ui.step_end(step, end);
        result
    }

    /// The name of the cluster that is meant: `--profile`, `SAMPAN_PROFILE`, the chosen one, "sampan".
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for what cannot be a name.
    pub fn profile(&self) -> Result<String> {
        let said = self
            .global
            .profile
            .clone()
            .or_else(|| host::variable("SAMPAN_PROFILE"));
        let name = match said {
            Some(name) => name,
            None => cluster::current(&host::layout()?).unwrap_or_else(|| DEFAULT_PROFILE.to_owned()),
        };
        settings::label(&name).map_err(|what| settings::wrong_name(&name, &what))?;
        Ok(name)
    }

    /// Everything that was said about settings; `flags` are those of the verb.
    ///
    /// # Errors
    /// When the settings file is damaged or a value cannot be.
    pub fn settings(&self, flags: Vec<(&'static str, Option<String>)>) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.add_file(&ConfigFile::read(&host::layout()?.config_file())?)?;
        settings.add_environment(&host::variable)?;
        for (name, text) in flags {
            settings.add_flag(name, text)?;
        }
        Ok(settings)
    }

    /// What there is to choose from here.
    ///
    /// # Errors
    /// When this build of sampan has a damaged catalog.
    pub fn choices(&self) -> Result<Choices> {
        Ok(Choices {
            drivers: cluster::driver_names(&host::drivers()?),
            kubernetes: super::upstream::versions()?,
            host_memory_mib: host::memory_mib(),
            host_cpus: host::cpus(),
        })
    }
}
