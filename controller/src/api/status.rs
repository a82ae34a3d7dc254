//! Errors as the API server has them: `metav1.Status`, in the words that users of kubectl know.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use crds::{VirtualMachine, VirtualMachineInstance};
use kube_core::Resource;
use serde_json::{Value, json};

/// Why a call was not answered as its caller wished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    code: StatusCode,
    message: String,
    about: Option<Object>,
}

/// A machine or an instance that is spoken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    group: String,
    resource: String,
    name: String,
}

impl Object {
    /// A machine.
    pub fn vm(name: &str) -> Self {
        Self::of::<VirtualMachine>(name)
    }

    /// An instance.
    pub fn vmi(name: &str) -> Self {
        Self::of::<VirtualMachineInstance>(name)
    }

    fn of<K: Resource<DynamicType = ()>>(name: &str) -> Self {
        Self {
            group: K::group(&()).into_owned(),
            resource: K::plural(&()).into_owned(),
            name: name.to_owned(),
        }
    }

    /// Nothing of this name exists: 404.
    pub fn not_found(self) -> ApiError {
        let Self {
            group,
            resource,
            name,
        } = &self;
        let message = format!("{resource}.{group} {name:?} not found");
        ApiError::new(StatusCode::NOT_FOUND, message).about(self)
    }

    /// It cannot be done as things are: 409.
    pub fn conflict(self, why: &str) -> ApiError {
        let Self {
            group,
            resource,
            name,
        } = &self;
        let message =
            format!("Operation cannot be fulfilled on {resource}.{group} {name:?}: {why}");
        ApiError::new(StatusCode::CONFLICT, message).about(self)
    }

    /// Nobody may do that with it: 403.
    pub fn forbidden(self, why: &str) -> ApiError {
        let Self {
            group,
            resource,
            name,
        } = &self;
        let message = format!("{resource}.{group} {name:?} is forbidden: {why}");
        ApiError::new(StatusCode::FORBIDDEN, message).about(self)
    }
}

impl ApiError {
    /// An error of this code. What the code says is not repeated in the message.
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            about: None,
        }
    }

    /// The call is not understood, or the machine does not run and the client is to try again: 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Nobody knows who calls: 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// The caller may not: 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// There is no such call: 404.
    pub fn no_such_call() -> Self {
        // The API server's own words for a path that it does not know.
        Self::new(
            StatusCode::NOT_FOUND,
            "the server could not find the requested resource",
        )
    }

    /// There is such a call, by another method: 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "the server does not allow this method on the requested resource",
        )
    }

    /// Something of ours failed: 500.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// KubeVirt can do it, and we cannot: 501.
    pub fn not_supported(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{what} is not supported yet"),
        )
    }

    /// Somebody who is needed for the answer is not there: 503. Trying again later may help.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// Somebody who is needed for the answer is silent: 504.
    pub fn late(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, message)
    }

    /// The HTTP status code.
    pub fn code(&self) -> StatusCode {
        self.code
    }

    fn about(mut self, object: Object) -> Self {
        self.about = Some(object);
        self
    }

    fn status(&self) -> Value {
        let mut status = json!({
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "code": self.code.as_u16(),
            "reason": reason(self.code),
            "message": self.message,
        });
        if let Some(Object {
            group,
            resource,
            name,
        }) = &self.about
        {
            status["details"] = json!({"group": group, "kind": resource, "name": name});
        }
        status
    }
}

/// The API server's refusal is passed on: of a write in the caller's name, it is the answer.
impl From<kube_client::Error> for ApiError {
    fn from(error: kube_client::Error) -> Self {
        match error {
            kube_client::Error::Api(status) => {
                let code = StatusCode::from_u16(status.code);
                let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Self::new(code, status.message)
            }
            kube_client::Error::SerdeError(error) => {
                Self::internal(format!("the object cannot be read: {error}"))
            }
            error => Self::unavailable(format!(
                "virt-controller cannot reach the API server: {}",
                crate::error::Chain(&error)
            )),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.code, Json(self.status())).into_response()
    }
}

/// `metav1.StatusReason`, which clients tell errors apart by.
fn reason(code: StatusCode) -> &'static str {
    match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::NOT_IMPLEMENTED => "NotImplemented",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use kube_core::Status;

    use super::*;

    #[test]
    fn errors_are_as_kubectl_knows_them() {
        let cases = [
            (
                Object::vm("x").not_found(),
                404,
                "NotFound",
                "virtualmachines.kubevirt.io \"x\" not found",
            ),
            (
                Object::vmi("x").conflict("VMI is not running"),
                409,
                "Conflict",
                "Operation cannot be fulfilled on virtualmachineinstances.kubevirt.io \"x\": VMI is \
                 not running",
            ),
            (
                ApiError::not_supported("migration"),
                501,
                "NotImplemented",
                "migration is not supported yet",
            ),
            (
                kube_client::Error::Api(Box::new(
                    Status::failure("it changed", "Conflict").with_code(409),
                ))
                .into(),
                409,
                "Conflict",
                "it changed",
            ),
            (ApiError::late("silence"), 504, "Timeout", "silence"),
        ];
        for (error, code, reason, message) in cases {
            let status = error.status();
            assert_eq!(status["kind"], "Status", "{status}");
            assert_eq!(status["status"], "Failure", "{status}");
            assert_eq!(status["code"], code, "{status}");
            assert_eq!(status["reason"], reason, "{status}");
            assert_eq!(status["message"], message, "{status}");
        }
    }

    #[test]
    fn what_is_spoken_of_is_named_apart() {
        let details = &Object::vm("x").not_found().status()["details"];
        let expected = json!({"group": "kubevirt.io", "kind": "virtualmachines", "name": "x"});
        assert_eq!(details, &expected);
        assert_eq!(ApiError::no_such_call().status().get("details"), None);
    }
}
