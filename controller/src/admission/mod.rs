//! Admission: what users write is completed and checked before the API server keeps it.
//!
//! ```text
//! API server --AdmissionReview--> Webhook::answer --> virtualmachine
//!     |                             |                 virtualmachineinstance
//!     |<------ patch or refusal ----'                 kubevirt
//! ```
//!
//! `mutate` comes first. It adds finalizers and an instance's defaults and never changes what was
//! written, so that `kubectl diff` and a second `kubectl apply` find nothing to do. The API
//! server then holds the object against its schema, and asks `validate`, which refuses what the
//! schema lets pass: unknown fields, which the schema preserves for that purpose, and what the
//! rules of [`crds`] forbid, each with its path; of what is taken and not followed it warns. What an
//! update leaves as it was is not looked at again, so that rules that came later never hold up a
//! finalizer that goes. Deletion is nobody's business here.
//!
//! Everything in this module is pure.

mod kubevirt;
#[cfg(test)]
mod tests;
mod virtualmachine;
mod virtualmachineinstance;

use crds::FieldError;
use crds::manifest::ManifestError;
use kube_core::admission::{
    AdmissionRequest, AdmissionResponse, AdmissionReview, META_API_VERSION_V1, META_KIND,
    Operation, SerializePatchError,
};
use kube_core::response::{StatusCause, StatusDetails};
use kube_core::{DynamicObject, Status};
use serde_json::Value;

use crate::config::Settings;

pub use virtualmachine::FINALIZER as VIRTUAL_MACHINE_FINALIZER;
pub use virtualmachineinstance::FINALIZER as VIRTUAL_MACHINE_INSTANCE_FINALIZER;

/// The cluster that objects are admitted to.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// Where our components are.
    pub namespace: &'a str,
    /// What the cluster's admin allows.
    pub settings: &'a Settings,
}

/// What the API server asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// To complete an object.
    Mutate,
    /// To check an object.
    Validate,
}

/// A review that cannot be answered. No API server asks so: the webhooks are set up wrongly, or it
/// is somebody else.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The body is no review.
    #[error("the body is no AdmissionReview")]
    Body(#[source] serde_json::Error),
    /// The review is of another kind or version.
    #[error("the body is {kind} of {version}; send {META_KIND} of {META_API_VERSION_V1}")]
    Version {
        /// Its kind.
        kind: String,
        /// Its version.
        version: String,
    },
    /// The review asks nothing.
    #[error("the AdmissionReview holds no request")]
    NoRequest,
    /// The request names an operation that its object is missing for.
    #[error("the request to {operation:?} holds no {field}")]
    NoObject {
        /// The operation.
        operation: Operation,
        /// The field that should hold it.
        field: &'static str,
    },
    /// The request is about objects that are admitted elsewhere.
    #[error("{0} is not admitted here; take it out of the webhook's rules")]
    Kind(String),
    /// An object or a patch could not be written as JSON.
    #[error("writing JSON")]
    Json(#[from] serde_json::Error),
    /// A patch could not be written as JSON.
    #[error("writing the patch")]
    Patch(#[from] SerializePatchError),
}

impl Webhook {
    /// Answers an AdmissionReview.
    ///
    /// # Errors
    /// When the body is no review of an object that is admitted here.
    pub fn answer(
        self,
        body: &[u8],
        cluster: Cluster<'_>,
    ) -> Result<AdmissionReview<DynamicObject>, ReviewError> {
        let review: AdmissionReview<DynamicObject> =
            serde_json::from_slice(body).map_err(ReviewError::Body)?;
        let types = &review.types;
        if types.kind != META_KIND || types.api_version != META_API_VERSION_V1 {
            return Err(ReviewError::Version {
                kind: types.kind.clone(),
                version: types.api_version.clone(),
            });
        }
        let request: AdmissionRequest<DynamicObject> =
            review.try_into().map_err(|_| ReviewError::NoRequest)?;
        let mut response = AdmissionResponse::from(&request);
        let Some(change) = Change::of(&request)? else {
            return Ok(response.into_review());
        };
        let response = match self {
            Self::Mutate => {
                let mut object = change.object.clone();
                change.kind.mutate(&change, &mut object);
                if object == change.object {
                    response
                } else {
                    response.with_patch(json_patch::diff(&change.object, &object))?
                }
            }
            Self::Validate => match change.kind.validate(&change, cluster) {
                errors if errors.is_empty() => {
                    let warnings = change.kind.warnings(&change);
                    response.warnings = Some(warnings).filter(|all| !all.is_empty());
                    response
                }
                errors => refuse(response, &request, &errors),
            },
        };
        Ok(response.into_review())
    }
}

/// Refuses in the form that the API server's own refusals have, so that kubectl prints each field
/// on a line of its own, and with KubeVirt's code and reason.
fn refuse(
    mut response: AdmissionResponse,
    request: &AdmissionRequest<DynamicObject>,
    errors: &[FieldError],
) -> AdmissionResponse {
    let causes = errors.iter().map(|error| StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        message: error.detail.clone(),
        field: error.path.clone(),
    });
    let details = StatusDetails {
        name: request.name.clone(),
        group: request.kind.group.clone(),
        kind: request.kind.kind.clone(),
        uid: String::new(),
        causes: causes.collect(),
        retry_after_seconds: 0,
    };
    let message: Vec<_> = errors.iter().map(ToString::to_string).collect();
    response.allowed = false;
    response.result = Status::failure(&message.join(", "), "Invalid")
        .with_code(422)
        .with_details(details);
    response
}

/// A kind of object that is admitted here.
#[derive(Clone, Copy, Debug)]
enum Kind {
    VirtualMachine,
    VirtualMachineInstance,
    KubeVirt,
}

impl Kind {
    fn mutate(self, change: &Change, object: &mut Value) {
        match self {
            Self::VirtualMachine => virtualmachine::mutate(change, object),
            Self::VirtualMachineInstance => virtualmachineinstance::mutate(change, object),
            Self::KubeVirt => {}
        }
    }

    fn validate(self, change: &Change, cluster: Cluster<'_>) -> Vec<FieldError> {
        match self {
            Self::VirtualMachine => virtualmachine::validate(change, cluster),
            Self::VirtualMachineInstance => virtualmachineinstance::validate(change, cluster),
            Self::KubeVirt => kubevirt::validate(change, cluster),
        }
    }

    /// What its author should know of a change that is taken.
    fn warnings(self, change: &Change) -> Vec<String> {
        match self {
            Self::VirtualMachine => virtualmachineinstance::warnings(change, "spec.template.spec"),
            Self::VirtualMachineInstance => virtualmachineinstance::warnings(change, "spec"),
            Self::KubeVirt => Vec::new(),
        }
    }
}

/// An object that is created or updated.
#[derive(Debug)]
struct Change {
    kind: Kind,
    /// What it is to be.
    object: Value,
    /// What it was; none if it is created.
    old: Option<Value>,
    /// Who writes it.
    user: String,
}

impl Change {
    /// What is asked; none if it is neither a creation nor an update.
    fn of(request: &AdmissionRequest<DynamicObject>) -> Result<Option<Self>, ReviewError> {
        let types = &request.kind;
        let kind = match (types.group.as_str(), types.kind.as_str()) {
            ("kubevirt.io", "VirtualMachine") => Kind::VirtualMachine,
            ("kubevirt.io", "VirtualMachineInstance") => Kind::VirtualMachineInstance,
            ("kubevirt.io", "KubeVirt") => Kind::KubeVirt,
            _ => return Err(ReviewError::Kind(types.kind.clone())),
        };
        let json = |object: &Option<DynamicObject>, field| {
            let operation = request.operation.clone();
            let object = object.as_ref();
            let object = object.ok_or(ReviewError::NoObject { operation, field })?;
            Ok::<_, ReviewError>(serde_json::to_value(object)?)
        };
        let old = match request.operation {
            Operation::Create => None,
            Operation::Update => Some(json(&request.old_object, "oldObject")?),
            Operation::Delete | Operation::Connect => return Ok(None),
        };
        Ok(Some(Self {
            kind,
            object: json(&request.object, "object")?,
            old,
            user: request.user_info.username.clone().unwrap_or_default(),
        }))
    }

    fn is_creation(&self) -> bool {
        self.old.is_none()
    }

    /// Whether what is at `pointer` (RFC 6901) is new or another than before.
    fn touches(&self, pointer: &str) -> bool {
        let old = self.old.as_ref();
        old.is_none_or(|old| old.pointer(pointer) != self.object.pointer(pointer))
    }

    /// Whether a rule about the spec or about annotations could newly be broken.
    fn is_worth_a_look(&self) -> bool {
        self.touches("/spec") || self.touches("/metadata/annotations")
    }

    /// Leaves those errors that are about what this change touches.
    fn retain_touched(&self, errors: &mut Vec<FieldError>) {
        errors.retain(|error| match error.path.starts_with("metadata") {
            true => self.touches("/metadata/annotations"),
            false => self.touches("/spec"),
        });
    }
}

/// Adds `finalizer`, if it is not there.
fn add_finalizer(object: &mut Value, finalizer: &str) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let finalizers = metadata.entry("finalizers").or_insert(Value::Null);
    match finalizers {
        Value::Array(present) if present.iter().any(|f| f == finalizer) => {}
        Value::Array(present) => present.push(finalizer.into()),
        absent => *absent = vec![finalizer].into(),
    }
}

/// What is wrong with the fields of an object that could not be read.
fn unreadable(error: ManifestError) -> Vec<FieldError> {
    match error {
        ManifestError::Fields(errors) => errors.0,
        other => vec![FieldError {
            path: "kind".to_owned(),
            detail: other.to_string(),
        }],
    }
}
