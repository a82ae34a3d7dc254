//! Reviews that are odd, and the form of answers.

use serde_json::json;

use super::*;

#[test]
fn a_refusal_reads_like_the_api_servers_own() {
    let mut object = vm();
    object["spec"]["template"]["spec"]["domain"]["cpus"] = json!(2);
    object["spec"]["dataVolumeTemplates"] = json!([]);
    let response = Asked::create(Webhook::Validate, &object).answer();
    assert!(!response.allowed);
    let result = serde_json::to_value(&response.result).unwrap();
    let cause = |field: &str, message: &str| json!({ "reason": "FieldValueInvalid", "field": field, "message": message });
    let causes = [
        cause(
            "spec.dataVolumeTemplates",
            "not supported yet; use containerDisk or hostDisk",
        ),
        cause(
            "spec.template.spec.domain.cpus",
            "no such field in kubevirt.io/v1; check its spelling and its place",
        ),
    ];
    let details = &result["details"];
    assert_eq!(details["kind"], "VirtualMachine");
    assert_eq!(details["group"], "kubevirt.io");
    assert_eq!(details["name"], "web");
    assert_eq!(details["causes"].as_array().unwrap().len(), causes.len());
    for cause in causes {
        let field = &cause["field"];
        let found = details["causes"].as_array().unwrap();
        let found = found.iter().find(|found| found["field"] == *field).unwrap();
        assert_eq!(found["reason"], cause["reason"]);
        assert!(result["message"].as_str().unwrap().contains(&format!(
            "{}: {}",
            field.as_str().unwrap(),
            found["message"].as_str().unwrap()
        )));
    }
    assert_eq!(result["code"], 422);
    assert_eq!(result["reason"], "Invalid");
    assert_eq!(result["status"], "Failure");
}

#[test]
fn deletion_is_always_allowed() {
    let broken = with(vm(), "/spec", json!("nothing that is read"));
    for object in [vm(), vmi(), kubevirt(), broken] {
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            let response = Asked::update(webhook, &object, &Value::Null).answer();
            assert!(response.allowed);
            assert_eq!(response.patch, None);
        }
    }
}

#[test]
fn what_is_no_review_is_told_so() {
    let review = review("VirtualMachine", &vm(), &Value::Null, "alice");
    let pods = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let deep = "[".repeat(100_000);
    let cases = [
        (String::new(), "the body is no AdmissionReview"),
        ("{}".to_owned(), "the body is no AdmissionReview"),
        ("null".to_owned(), "the body is no AdmissionReview"),
        (deep, "the body is no AdmissionReview"),
        (
            with(
                review.clone(),
                "/apiVersion",
                json!("admission.k8s.io/v1beta1"),
            )
            .to_string(),
            "the body is AdmissionReview of admission.k8s.io/v1beta1; send AdmissionReview of \
             admission.k8s.io/v1",
        ),
        (
            with(review.clone(), "/request", Value::Null).to_string(),
            "the AdmissionReview holds no request",
        ),
        (
            with(review.clone(), "/request/object", Value::Null).to_string(),
            "the request to Create holds no object",
        ),
        (
            with(review.clone(), "/request/operation", json!("UPDATE")).to_string(),
            "the request to Update holds no oldObject",
        ),
        (
            with(review.clone(), "/request/kind", pods).to_string(),
            "Pod is not admitted here; take it out of the webhook's rules",
        ),
        (
            with(review, "/request/operation", json!("FLY")).to_string(),
            "the body is no AdmissionReview",
        ),
    ];
    let settings = settings(false);
    let cluster = Cluster {
        namespace: NAMESPACE,
        settings: &settings,
    };
    for (body, expected) in cases {
        let error = Webhook::Validate
            .answer(body.as_bytes(), cluster)
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn an_object_of_another_shape_is_refused_not_feared() {
    for spec in [json!(null), json!([]), json!("x"), json!({ "template": 7 })] {
        for mut object in [vm(), vmi(), kubevirt()] {
            object["spec"] = spec.clone();
            let made = Asked::create(Webhook::Mutate, &object).mutated();
            assert_eq!(made["spec"], spec);
            let refused = Asked::create(Webhook::Validate, &object).refused();
            assert!(!refused.is_empty(), "{object:#}");
        }
    }
}
