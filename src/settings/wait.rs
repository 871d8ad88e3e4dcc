//! What `start` waits for before it says that it is done.

use super::suggest::did_you_mean;

/// One thing `start` can wait for, named as minikube names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The apiserver answers and is healthy.
    ApiServer,
    /// The pods in kube-system are ready.
    SystemPods,
    /// The service account `default` exists.
    DefaultServiceAccount,
    /// The deployments in kube-system have their replicas.
    AppsRunning,
    /// The node is Ready.
    NodeReady,
    /// The kubelet runs.
    Kubelet,
    /// The pods of the control plane, kube-proxy and DNS, each by its label.
    Extra,
}

impl Wait {
    /// All of them, in the order they come true.
    pub const ALL: [Self; 7] = [
        Self::Kubelet,
        Self::ApiServer,
        Self::DefaultServiceAccount,
        Self::NodeReady,
        Self::SystemPods,
        Self::AppsRunning,
        Self::Extra,
    ];

    /// What is waited for unless the user says something else.
    pub const DEFAULT: [Self; 2] = [Self::ApiServer, Self::SystemPods];

    /// Its name in `--wait`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "apiserver",
            Self::SystemPods => "system_pods",
            Self::DefaultServiceAccount => "default_sa",
            Self::AppsRunning => "apps_running",
            Self::NodeReady => "node_ready",
            Self::Kubelet => "kubelet",
            Self::Extra => "extra",
        }
    }

    /// Reads a `--wait` list: names with commas between, or all, true, none, false; sorted, each once.
    ///
    /// # Errors
    /// What is wrong with it, in words, with the nearest name.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        match text.trim() {
            "all" | "true" => return Ok(Self::ALL.to_vec()),
            "none" | "false" | "" => return Ok(Vec::new()),
            _ => {}
        }
        let mut waits = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let wait = Self::ALL.into_iter().find(|wait| wait.name() == word);
            waits.push(wait.ok_or_else(|| {
                let mut names = Self::ALL.map(Self::name).to_vec();
                names.extend(["all", "none"]);
                format!(
                    "has `{word}`, which cannot be waited for; {}",
                    did_you_mean(word, &names)
                )
            })?);
        }
        waits.sort_unstable();
        waits.dedup();
        Ok(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_list_is_read_and_a_wrong_name_gets_a_suggestion() {
        assert_eq!(
            Wait::parse("node_ready, apiserver,apiserver"),
            Ok(vec![Wait::ApiServer, Wait::NodeReady])
        );
        assert_eq!(Wait::parse("false"), Ok(vec![]));
        assert_eq!(Wait::parse("true").map(|waits| waits.len()), Ok(7));
        let wrong = Wait::parse("apiserver,system_pod").unwrap_err();
        assert!(wrong.ends_with("did you mean `system_pods`?"), "{wrong}");
    }
}
