//! Why a write was not performed, and what follows from that.

use std::time::Duration;

use crate::api::ApiError;
use crate::pod;
use crate::reconcile::Failure;

pub(super) const CREATING_VMI: &str = "creating the instance";
pub(super) const CREATING_POD: &str = "creating the pod";
pub(super) const TELLING: &str = "telling the guest to shut down";

/// How long one write may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// Why a write was not performed.
#[derive(Debug, thiserror::Error)]
pub(in crate::run) enum PerformError {
    /// The API server refused it, or there was no answer.
    #[error("{what}")]
    Api {
        /// The write.
        what: &'static str,
        /// What it said.
        #[source]
        source: kube_client::Error,
    },
    /// There was no answer in time.
    #[error("{what}: no answer in {} s", TIMEOUT.as_secs())]
    Late {
        /// The write.
        what: &'static str,
    },
    /// The guest's node did not tell it.
    #[error("{TELLING}")]
    Untold(#[source] ApiError),
    /// The instance has no pod.
    #[error("rendering the pod")]
    Render(#[from] pod::RenderError),
    /// Another's pod has the name of the instance's.
    #[error("a pod named {name:?} exists that is not this instance's; delete it")]
    Taken {
        /// The pod's name.
        name: String,
    },
    /// A pod of the instance is left.
    #[error("pod {name:?} of the instance is left")]
    PodLeft {
        /// The pod's name.
        name: String,
    },
}

impl PerformError {
    /// What to tell the user, where trying again will not help before somebody does something.
    pub(in crate::run) fn refusal(&self) -> Option<Failure> {
        let message = match self {
            Self::Api {
                source: kube_client::Error::Api(status),
                what: CREATING_VMI | CREATING_POD,
            } if matches!(status.code, 400 | 403 | 405 | 413 | 422) => status.message.clone(),
            Self::Render(error) => error.to_string(),
            Self::Taken { .. } => self.to_string(),
            _ => return None,
        };
        Some(Failure { message })
    }

    /// The object has changed since the decision, or is gone: there will be another.
    pub(in crate::run) fn is_stale(&self) -> bool {
        let code = match self {
            Self::Api {
                source: kube_client::Error::Api(status),
                ..
            } => status.code,
            Self::Untold(error) => error.code().as_u16(),
            _ => return false,
        };
        matches!(code, 404 | 409)
    }
}

#[cfg(test)]
mod tests {
    use kube_core::Status;

    use super::*;

    #[test]
    fn what_is_refused_is_told_from_what_passes() {
        let answer = |what, code| PerformError::Api {
            what,
            source: kube_client::Error::Api(Box::new(
                Status::failure("why", "Reason").with_code(code),
            )),
        };
        let cases = [
            (CREATING_POD, 403, true, false),
            (CREATING_VMI, 422, true, false),
            (CREATING_VMI, 400, true, false),
            // Its namespace is not there, or not any more.
            (CREATING_POD, 404, false, true),
            (CREATING_POD, 429, false, false),
            (CREATING_POD, 500, false, false),
            ("applying", 409, false, true),
            ("applying", 403, false, false),
        ];
        for (what, code, refused, stale) in cases {
            let error = answer(what, code);
            assert_eq!(error.refusal().is_some(), refused, "{what} {code}");
            assert_eq!(error.is_stale(), stale, "{what} {code}");
        }
        let untold = [
            (ApiError::no_such_call(), true),
            (ApiError::unavailable("no virt-handler"), false),
        ];
        for (error, stale) in untold {
            let error = PerformError::Untold(error);
            assert!(error.refusal().is_none(), "{error:?}");
            assert_eq!(error.is_stale(), stale, "{error:?}");
        }
        let message = answer(CREATING_POD, 403).refusal().unwrap().message;
        assert_eq!(message, "why");
    }
}
