//! What is requested, and what may be used.

use super::*;
use crate::pod::overhead;
use crate::pod::resources::Compute;

/// One of `compute`'s resources that is set aside, and its limit, the overhead left out.
fn compute(domain: Value) -> Value {
    let vmi = instance(json!({"domain": domain}));
    let made = Compute::new(&vmi, &context()).requirements();
    let overhead = overhead::bytes(&vmi, &context());
    let list = |list: Option<
        std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    >| {
        let list = list.unwrap().into_iter();
        let list = list.filter(|(name, _)| !name.starts_with("devices.kubevirt.io/"));
        list.map(|(name, quantity)| {
            let mut quantity: crds::Quantity = quantity.0.parse().unwrap();
            if name == "memory" {
                quantity = crds::Quantity::from_bytes(quantity.bytes().unwrap() - overhead);
            }
            (name, quantity.to_string())
        })
        .collect::<std::collections::BTreeMap<_, _>>()
    };
    json!([list(made.requests), list(made.limits)])
}

#[test]
fn compute_has_what_the_instance_says_and_the_overhead() {
    let guest = json!({"memory": {"guest": "1Gi"}});
    let with = |more: Value| {
        let mut domain = guest.clone();
        merge(&mut domain, more);
        domain
    };
    let cases = [
        (guest.clone(), json!([{"cpu": "100m", "memory": "1Gi"}, {}])),
        (
            with(json!({"cpu": {"sockets": 2, "cores": 3, "threads": 2}})),
            json!([{"cpu": "1200m", "memory": "1Gi"}, {}]),
        ),
        (
            with(json!({"resources": {"requests": {"memory": "512Mi", "cpu": "1500m"}}})),
            json!([{"cpu": "1500m", "memory": "512Mi"}, {}]),
        ),
        (
            with(json!({"resources": {"limits": {"memory": "2Gi", "cpu": 2}}})),
            json!([{"cpu": "2", "memory": "2Gi"}, {"cpu": "2", "memory": "2Gi"}]),
        ),
        (
            with(json!({"resources": {
                "requests": {"memory": "1Gi", "cpu": "250m"},
                "limits": {"memory": "2Gi", "cpu": 2},
            }})),
            json!([{"cpu": "250m", "memory": "1Gi"}, {"cpu": "2", "memory": "2Gi"}]),
        ),
        (
            with(json!({"memory": {"hugepages": {"pageSize": "2Mi"}}})),
            json!([
                {"cpu": "100m", "memory": "0", "hugepages-2Mi": "1Gi"},
                {"hugepages-2Mi": "1Gi"},
            ]),
        ),
        (
            with(json!({
                "memory": {"hugepages": {"pageSize": "1Gi"}},
                "resources": {"limits": {"memory": "1280Mi"}},
            })),
            json!([
                {"cpu": "100m", "memory": "256Mi", "hugepages-1Gi": "1Gi"},
                {"memory": "256Mi", "hugepages-1Gi": "1Gi"},
            ]),
        ),
    ];
    for (domain, expected) in cases {
        assert_eq!(compute(domain.clone()), expected, "{domain}");
    }
}

#[test]
fn devices_are_those_that_the_machine_uses() {
    let cases = [
        (json!({}), false, ["kvm", "tun", "vhost-net"].as_slice()),
        (json!({}), true, ["tun"].as_slice()),
        (
            json!({"interfaces": [{"name": "default", "model": "e1000"}]}),
            false,
            &["kvm", "tun"],
        ),
        (
            json!({"autoattachPodInterface": false}),
            false,
            &["kvm", "tun"],
        ),
    ];
    for (devices, use_emulation, expected) in cases {
        let mut context = context();
        context.settings.use_emulation = use_emulation;
        let vmi = instance(json!({"domain": {"devices": devices}}));
        let limits = Compute::new(&vmi, &context).requirements().limits.unwrap();
        let expected: Vec<_> = expected
            .iter()
            .map(|device| format!("devices.kubevirt.io/{device}"))
            .collect();
        assert_eq!(limits.keys().cloned().collect::<Vec<_>>(), expected);
        assert!(limits.values().all(|number| number.0 == "1"));
    }
}

#[test]
fn helpers_are_guaranteed_where_compute_is() {
    let sidecar = "devices.kubevirt.io/sidecar";
    let cases = [
        (
            json!({}),
            json!({
                "requests": {"cpu": "5m", "memory": "4Mi"},
                "limits": {"memory": "16Mi", sidecar: "1"},
            }),
        ),
        (
            json!({"limits": {"cpu": 1}}),
            json!({
                "requests": {"cpu": "5m", "memory": "4Mi"},
                "limits": {"cpu": "100m", "memory": "16Mi", sidecar: "1"},
            }),
        ),
        (
            json!({"requests": {"memory": "32Mi"}, "limits": {"cpu": 1, "memory": "64Mi"}}),
            json!({
                "requests": {"cpu": "5m", "memory": "4Mi"},
                "limits": {"cpu": "100m", "memory": "16Mi", sidecar: "1"},
            }),
        ),
        (
            json!({"limits": {"cpu": 1, "memory": "64Mi"}}),
            json!({
                "requests": {"cpu": "100m", "memory": "16Mi"},
                "limits": {"cpu": "100m", "memory": "16Mi", sidecar: "1"},
            }),
        ),
    ];
    for (resources, expected) in cases {
        let vmi = instance(json!({"domain": {"resources": resources}}));
        let made = Compute::new(&vmi, &context()).helper(Some("sidecar"));
        assert_eq!(json!(made), expected, "{resources}");
    }
}
