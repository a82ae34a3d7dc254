//! May they? The API server knows: a SubjectAccessReview for each call.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube_client::api::PostParams;
use kube_client::{Api, Client};

use super::{ApiError, Call, GROUP, User};

/// Asks whether `user` may do this.
///
/// # Errors
/// 403 when they may not; 503 when the API server cannot be asked.
pub(super) async fn authorise(
    client: &Client,
    user: &User,
    call: &Call,
    verb: &str,
) -> Result<(), ApiError> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let question = question(user, call, verb);
    let answer = reviews.create(&PostParams::default(), &question).await;
    // What the API server refuses us is no answer to the user.
    let answer = answer.map_err(|error| {
        ApiError::unavailable(format!(
            "virt-controller cannot ask the API server who may do this: {}",
            crate::error::Chain(&error)
        ))
    })?;
    match answer.status {
        Some(status) if status.allowed && status.denied != Some(true) => Ok(()),
        status => Err(ApiError::forbidden(refusal(
            user,
            call,
            verb,
            &status.unwrap_or_default(),
        ))),
    }
}

fn question(user: &User, call: &Call, verb: &str) -> SubjectAccessReview {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: given(&user.name),
            uid: given(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                version: given(&call.version),
                namespace: given(&call.namespace),
                resource: given(&call.resource),
                name: given(&call.name),
                subresource: given(&call.subresource),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// Why they may not, in the words of the API server.
fn refusal(user: &User, call: &Call, verb: &str, status: &SubjectAccessReviewStatus) -> String {
    let Call {
        namespace,
        resource,
        name,
        subresource,
        ..
    } = call;
    let mut what = format!("{resource}.{GROUP}");
    if !name.is_empty() {
        what += &format!(" {name:?}");
    }
    let mut resource = resource.clone();
    if !subresource.is_empty() {
        resource += &format!("/{subresource}");
    }
    let scope = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let user = &user.name;
    let mut refusal = format!(
        "{what} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group \
         {GROUP:?} {scope}"
    );
    let said = status.reason.iter().chain(&status.evaluation_error);
    for reason in said.filter(|reason| !reason.is_empty()) {
        refusal += &format!(": {reason}");
    }
    refusal
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn console() -> Call {
        Call::parse(
            "/apis/subresources.kubevirt.io/v1/namespaces/n/virtualmachineinstances/web/console",
        )
        .unwrap()
    }

    fn version() -> Call {
        Call::parse("/apis/subresources.kubevirt.io/v1alpha3/version").unwrap()
    }

    fn alice() -> User {
        User {
            name: "alice".to_owned(),
            uid: "42".to_owned(),
            groups: vec!["dev".to_owned(), "system:authenticated".to_owned()],
            extra: BTreeMap::from([("scopes".to_owned(), vec!["a".to_owned(), "b".to_owned()])]),
        }
    }

    #[test]
    fn everything_that_is_known_is_asked_with() {
        let asked = serde_json::to_value(question(&alice(), &console(), "get")).unwrap();
        let expected = json!({
            "user": "alice",
            "uid": "42",
            "groups": ["dev", "system:authenticated"],
            "extra": {"scopes": ["a", "b"]},
            "resourceAttributes": {
                "group": "subresources.kubevirt.io",
                "version": "v1",
                "namespace": "n",
                "resource": "virtualmachineinstances",
                "name": "web",
                "subresource": "console",
                "verb": "get",
            },
        });
        assert_eq!(asked["spec"], expected);
        let asked = serde_json::to_value(question(&alice(), &version(), "get")).unwrap();
        let expected = json!({
            "group": "subresources.kubevirt.io",
            "version": "v1alpha3",
            "resource": "version",
            "verb": "get",
        });
        assert_eq!(asked["spec"]["resourceAttributes"], expected);
    }

    #[test]
    fn a_refusal_is_in_words_that_users_know() {
        let reason = SubjectAccessReviewStatus {
            reason: Some("it is late".to_owned()),
            ..SubjectAccessReviewStatus::default()
        };
        let cases = [
            (
                console(),
                "get",
                SubjectAccessReviewStatus::default(),
                r#"virtualmachineinstances.subresources.kubevirt.io "web" is forbidden: User "alice" cannot get resource "virtualmachineinstances/console" in API group "subresources.kubevirt.io" in the namespace "n""#,
            ),
            (
                version(),
                "get",
                reason,
                r#"version.subresources.kubevirt.io is forbidden: User "alice" cannot get resource "version" in API group "subresources.kubevirt.io" at the cluster scope: it is late"#,
            ),
        ];
        for (call, verb, status, expected) in cases {
            assert_eq!(refusal(&alice(), &call, verb, &status), expected);
        }
    }
}
