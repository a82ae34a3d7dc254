//! What an instance waits for.

use super::*;

#[test]
fn an_instance_that_waits_says_why() {
    let pending = |message: &str| Launcher {
        scheduled: condition("False", "Unschedulable", message),
        ..unbound()
    };
    let handler = Offers {
        handler: true,
        kvm: false,
    };
    let kvm = "0/2 nodes are available: 2 Insufficient devices.kubevirt.io/kvm.";
    let cases = [
        (
            Offers::default(),
            "0/1 nodes are available: 1 Insufficient devices.kubevirt.io/tun.",
            "VirtHandlerNotReady",
            "virt-handler is not ready on any node; the machine starts when it is \
             (0/1 nodes are available: 1 Insufficient devices.kubevirt.io/tun.)",
        ),
        (
            handler,
            "0/1 nodes: 1 Insufficient memory.",
            "Unschedulable",
            "0/1 nodes: 1 Insufficient memory.",
        ),
        (
            handler,
            kvm,
            "Unschedulable",
            "no node has KVM; useEmulation in the KubeVirt object lets machines run without \
             (0/2 nodes are available: 2 Insufficient devices.kubevirt.io/kvm.)",
        ),
        // All of it is taken.
        (
            Offers {
                handler: true,
                kvm: true,
            },
            kvm,
            "Unschedulable",
            kvm,
        ),
    ];
    for (offers, said, expected_reason, expected) in cases {
        let mut snapshot = snapshot(in_phase("Scheduling"), Some(pending(said)));
        snapshot.offers = offers;
        let decision = decide(&snapshot, at(1000));
        assert_eq!(words(&decision), format!("status, ({expected_reason})"));
        let mut status = settled(snapshot.clone());
        assert_eq!(
            reason(&status, "PodScheduled").unwrap(),
            format!("False {expected_reason}")
        );
        assert_eq!(message(&status, "PodScheduled"), expected);
        // It is told once, and not when its words change.
        Arc::make_mut(&mut snapshot.vmi).status = Some(status.clone());
        snapshot.pod = Some(Arc::new(pending("0/3 nodes are available")));
        assert_eq!(words(&decide(&snapshot, at(1000))), "status");
        // It is over with a node.
        snapshot.pod = Some(Arc::new(bound()));
        status = settled(snapshot);
        assert_eq!(reason(&status, "PodScheduled"), None);
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_told() {
    let waiting = |reason: &str| Launcher {
        waiting: Some(Waiting {
            reason: reason.to_owned(),
            message: "container volumeroot: no such host".to_owned(),
        }),
        ..bound()
    };
    let mut snapshot = snapshot(in_phase("Scheduled"), Some(waiting("ErrImagePull")));
    let decision = decide(&snapshot, at(1000));
    assert_eq!(words(&decision), "status, (ErrImagePull)");
    let status = settled(snapshot.clone());
    assert_eq!(
        reason(&status, "Synchronized").unwrap(),
        "False ErrImagePull"
    );
    assert_eq!(
        message(&status, "Synchronized"),
        "container volumeroot: no such host"
    );
    Arc::make_mut(&mut snapshot.vmi).status = Some(status);
    snapshot.pod = Some(Arc::new(waiting("ImagePullBackOff")));
    assert_eq!(words(&decide(&snapshot, at(1000))), "status");
    snapshot.pod = Some(Arc::new(bound()));
    assert_eq!(reason(&settled(snapshot), "Synchronized"), None);
}

#[test]
fn a_claim_that_is_missing_is_waited_for() {
    let mut snapshot = snapshot(instance(Value::Null), None);
    snapshot.missing_claims = vec!["data".to_owned(), "logs".to_owned()];
    let decision = decide(&snapshot, at(1000));
    assert_eq!(words(&decision), "status, (FailedPvcNotFound)");
    let status = settled(snapshot.clone());
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(
        reason(&status, "Synchronized").unwrap(),
        "False FailedPvcNotFound"
    );
    assert!(message(&status, "Synchronized").contains("data, logs"));
    Arc::make_mut(&mut snapshot.vmi).status = Some(status);
    snapshot.missing_claims.clear();
    assert_eq!(
        words(&decide(&snapshot, at(1000))),
        "create, (SuccessfulCreate)"
    );
    snapshot.pod = Some(Arc::new(unbound()));
    assert_eq!(reason(&settled(snapshot), "Synchronized"), None);
}

#[test]
fn what_was_refused_is_told() {
    let mut snapshot = snapshot(instance(Value::Null), None);
    snapshot.failure = Some(Failure {
        message: "exceeded quota".to_owned(),
    });
    assert_eq!(
        words(&decide(&snapshot, at(1000))),
        "status, (FailedCreate)"
    );
    let status = settled(snapshot.clone());
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(
        reason(&status, "Synchronized").unwrap(),
        "False FailedCreate"
    );
    assert_eq!(message(&status, "Synchronized"), "exceeded quota");
    Arc::make_mut(&mut snapshot.vmi).status = Some(status);
    snapshot.failure = None;
    assert_eq!(
        words(&decide(&snapshot, at(1000))),
        "create, (SuccessfulCreate)"
    );
}
