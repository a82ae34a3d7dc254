//! The plan, over the life of the certificates, and what the Secret may hold.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use proptest::prelude::*;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use serde_json::{Value, json};

use super::inject::injection;
use super::*;

pub(super) const HOUR: i64 = 1;
pub(super) const DAY: i64 = 24;

/// When everything began, in whole seconds, as certificates count.
const EPOCH: i64 = 1_800_000_000;

pub(super) fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(EPOCH).unwrap() + SignedDuration::from_hours(hours)
}

fn names() -> Vec<String> {
    server_names("ferrovirt")
}

fn server() -> Subject {
    Subject {
        common_name: "virt-controller".to_owned(),
        dns_names: names(),
        usage: Usage::Server,
    }
}

/// An authority of hour 0, and a certificate that it signed at `leaf`.
pub(super) fn bundle(leaf: i64) -> Bundle {
    let authority = Certified::authority(at(0)).unwrap();
    let leaf = Ok(authority.issue(&server(), at(leaf)).unwrap());
    Bundle {
        authority,
        retired: Vec::new(),
        leaf,
    }
}

fn refused(name: &str, error: CertificateError) -> Flaw {
    Flaw::Refused {
        name: name.to_owned(),
        source: rustls::Error::InvalidCertificate(error),
    }
}

/// What the plan says, without the flaw's details.
fn planned(found: &Result<Bundle, Flaw>, hours: i64) -> &'static str {
    match plan(found, &names(), at(hours)) {
        Step::Keep => "keep",
        Step::StartAnew(_) => "start anew",
        Step::AddAuthority => "add authority",
        Step::Renew => "renew",
        Step::Replace(_) => "replace",
    }
}

#[test]
fn each_age_has_its_step() {
    // When the certificate was signed, the time, and the step.
    let cases = [
        (0, 0, "keep"),
        (0, 59 * DAY, "keep"),
        (0, 61 * DAY, "renew"),
        (0, 89 * DAY, "renew"),
        (0, 91 * DAY, "replace"),
        (200 * DAY, 242 * DAY, "keep"),
        (200 * DAY, 244 * DAY, "add authority"),
        (200 * DAY, 270 * DAY, "add authority"),
        (200 * DAY, 291 * DAY, "replace"),
        (300 * DAY, 364 * DAY, "add authority"),
        (300 * DAY, 366 * DAY, "start anew"),
        // The clock went back: by less than the hour that everything is backdated by, and by more.
        (0, -HOUR / 2, "keep"),
        (0, -2 * HOUR, "start anew"),
        (10 * DAY, DAY, "replace"),
    ];
    for (leaf, now, expected) in cases {
        let step = planned(&Ok(bundle(leaf)), now);
        assert_eq!(step, expected, "signed at {leaf} h, seen at {now} h");
    }
}

#[test]
fn an_authority_is_trusted_for_an_hour_before_it_signs() {
    let mut bundle = bundle(0);
    let later = 65 * DAY;
    let newer = Certified::authority(at(later)).unwrap();
    let older = std::mem::replace(&mut bundle.authority, newer);
    bundle.retired = vec![older.certificate];
    let found = Ok(bundle);
    assert_eq!(planned(&found, later), "keep");
    assert_eq!(planned(&found, later + HOUR), "renew");
}

#[test]
fn what_is_of_no_use_is_made_anew() {
    let good = bundle(0).write();
    let other = bundle(0).write();
    let garbage = ByteString(b"-----BEGIN GARBAGE-----\n\xff".to_vec());
    let with = |entry: &str, value: Option<&ByteString>| {
        let mut data = good.clone();
        match value {
            Some(value) => data.insert(entry.to_owned(), value.clone()),
            None => data.remove(entry),
        };
        data
    };
    let cases = [
        (
            with(AUTHORITIES, None),
            Step::StartAnew(Flaw::NoEntry(AUTHORITIES)),
        ),
        (
            with(AUTHORITIES, Some(&garbage)),
            Step::StartAnew(Flaw::Unreadable(AUTHORITIES)),
        ),
        (
            with(AUTHORITIES, Some(&ByteString::default())),
            Step::StartAnew(Flaw::Unreadable(AUTHORITIES)),
        ),
        (
            with(AUTHORITY_KEY, None),
            Step::StartAnew(Flaw::NoEntry(AUTHORITY_KEY)),
        ),
        (
            with(AUTHORITY_KEY, Some(&garbage)),
            Step::StartAnew(Flaw::Unreadable(AUTHORITY_KEY)),
        ),
        (
            with(AUTHORITY_KEY, Some(&other[AUTHORITY_KEY])),
            Step::StartAnew(Flaw::OtherKey(AUTHORITY_KEY)),
        ),
        (with(LEAF, None), Step::Replace(Flaw::NoEntry(LEAF))),
        (
            with(LEAF, Some(&garbage)),
            Step::Replace(Flaw::Unreadable(LEAF)),
        ),
        // A key is no certificate.
        (
            with(LEAF, Some(&good[LEAF_KEY])),
            Step::Replace(Flaw::Unreadable(LEAF)),
        ),
        (with(LEAF_KEY, None), Step::Replace(Flaw::NoEntry(LEAF_KEY))),
        (
            with(LEAF_KEY, Some(&garbage)),
            Step::Replace(Flaw::Unreadable(LEAF_KEY)),
        ),
        (
            with(LEAF_KEY, Some(&other[LEAF_KEY])),
            Step::Replace(Flaw::OtherKey(LEAF_KEY)),
        ),
        (BTreeMap::new(), Step::StartAnew(Flaw::NoEntry(AUTHORITIES))),
    ];
    for (data, expected) in cases {
        let found = Bundle::read(&data);
        let step = plan(&found, &names(), at(DAY));
        assert_eq!(step, expected);
        let done = step.perform(found, &names(), at(DAY)).unwrap();
        let read = Bundle::read(&done.write());
        assert_eq!(planned(&read, DAY), "keep", "after {step:?}");
    }
}

#[test]
fn a_certificate_that_clients_would_refuse_is_replaced() {
    let [long, short] = [0, 1].map(|index| names()[index].clone());
    let unknown = {
        let mut bundle = bundle(0);
        bundle.leaf = Ok(Certified::authority(at(HOUR))
            .and_then(|other| other.issue(&server(), at(0)))
            .unwrap());
        bundle
    };
    let step = plan(&Ok(unknown), &names(), at(DAY));
    assert_eq!(
        step.to_string(),
        format!(
            "a certificate: the certificate is refused as {long}'s: invalid peer certificate: \
             UnknownIssuer"
        )
    );
    assert_eq!(
        step,
        Step::Replace(refused(&long, CertificateError::UnknownIssuer))
    );

    let mut nameless = bundle(0);
    let subject = Subject {
        dns_names: vec![long],
        ..server()
    };
    nameless.leaf = Ok(nameless.authority.issue(&subject, at(0)).unwrap());
    match plan(&Ok(nameless), &names(), at(DAY)) {
        Step::Replace(Flaw::Refused { name, .. }) => assert_eq!(name, short),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_there_is_made() {
    let step = plan(&Err(Flaw::Missing), &names(), at(0));
    assert_eq!(step, Step::StartAnew(Flaw::Missing));
    assert_eq!(
        step.to_string(),
        "an authority and a certificate: there are no certificates yet"
    );
    let made = step.perform(Err(Flaw::Missing), &names(), at(0)).unwrap();
    assert_eq!(planned(&Ok(made), 0), "keep");
}

/// For three years, looked at every day: whoever learnt a day ago whom to trust accepts what is
/// served, nothing comes near its end, and little is written.
#[test]
fn three_years_pass_without_a_gap() {
    let start = plan(&Err(Flaw::Missing), &names(), at(0));
    let mut bundle = start.perform(Err(Flaw::Missing), &names(), at(0)).unwrap();
    let mut writes = 0;
    let mut most_trusted = 0;
    for hours in (0..3 * 365 * DAY).step_by(24) {
        let now = at(hours);
        let known = bundle.write();
        loop {
            let found = Bundle::read(&bundle.write());
            let step = plan(&found, &names(), now);
            if step == Step::Keep {
                break;
            }
            assert!(
                matches!(step, Step::AddAuthority | Step::Renew),
                "at {hours} h: {step:?}"
            );
            bundle = step.perform(found, &names(), now).unwrap();
            writes += 1;
        }
        let mut client = Bundle::read(&known).unwrap();
        client.leaf = Bundle::read(&bundle.write()).unwrap().leaf;
        let served = client.check_leaf(&names(), now).unwrap();
        for certificate in [&served.certificate, &bundle.authority.certificate] {
            let left = now.duration_until(Validity::of(certificate).unwrap().until);
            assert!(
                left > SignedDuration::from_hours(29 * DAY),
                "at {hours} h: {left}"
            );
        }
        most_trusted = most_trusted.max(1 + bundle.retired.len());
    }
    // Four authorities' worth of successors, and a certificate every two months.
    assert!((15..=25).contains(&writes), "{writes} writes");
    assert_eq!(most_trusted, 2);
}

#[test]
fn a_client_is_known_by_the_same_authority() {
    let bundle = bundle(0);
    let subject = Subject {
        common_name: "virt-controller".to_owned(),
        dns_names: Vec::new(),
        usage: Usage::Client,
    };
    let client = bundle.authority.issue(&subject, at(0)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(bundle.authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
    let verifier = verifier.build().unwrap();
    let seconds = u64::try_from(at(DAY).as_second()).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier
        .verify_client_cert(&client.certificate, &[], now)
        .unwrap();
    let server = &bundle.leaf.as_ref().unwrap().certificate;
    verifier.verify_client_cert(server, &[], now).unwrap_err();
}

#[test]
fn a_name_that_is_none_is_refused() {
    let subject = Subject {
        dns_names: vec!["höst".to_owned()],
        ..server()
    };
    let error = bundle(0).authority.issue(&subject, at(0)).unwrap_err();
    assert_eq!(error.to_string(), r#""höst" is no DNS name"#);
}

#[test]
fn keys_are_not_shown() {
    let bundle = bundle(0);
    let shown = format!("{bundle:?}");
    let keys = [&bundle.authority.key, &bundle.leaf.as_ref().unwrap().key];
    for key in keys {
        let bytes = format!("{:?}", &key.serialized_der()[30..60]);
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])));
    }
    assert!(shown.contains("elided"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is done to the Secret, there is a step, and after it there is nothing to do.
    #[test]
    fn any_damage_is_repaired(
        entry in prop::sample::select(vec![AUTHORITIES, AUTHORITY_KEY, LEAF, LEAF_KEY]),
        place in any::<prop::sample::Index>(),
        damage in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut data = bundle(0).write();
        let bytes = &mut data.get_mut(entry).unwrap().0;
        let from = place.index(bytes.len());
        bytes.splice(from..(from + damage.len()).min(bytes.len()), damage);
        let mut found = Bundle::read(&data);
        let mut steps = 0;
        loop {
            let step = plan(&found, &names(), at(DAY));
            if step == Step::Keep {
                break;
            }
            let done = step.perform(found, &names(), at(DAY)).unwrap();
            found = Bundle::read(&done.write());
            steps += 1;
            prop_assert!(steps < 3);
        }
    }
}

#[test]
fn whom_to_trust_is_written_where_it_is_not() {
    let configuration = |bundles: [Option<&str>; 2]| {
        let webhooks = ["a.ferrovirt.io", "b.ferrovirt.io"]
            .into_iter()
            .zip(bundles);
        let webhooks = webhooks.map(|(name, bundle)| {
            let bundle = bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec()));
            json!({
                "name": name,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "clientConfig": { "caBundle": bundle },
            })
        });
        json!({ "metadata": {}, "webhooks": webhooks.collect::<Vec<_>>() })
    };
    let cases = [
        ([Some("now"), Some("now")], false),
        ([None, None], true),
        ([Some("now"), None], true),
        ([Some("before"), Some("now")], true),
    ];
    for (bundles, is_written) in cases {
        let object = configuration(bundles);
        let mutating: MutatingWebhookConfiguration =
            serde_json::from_value(object.clone()).unwrap();
        let validating: ValidatingWebhookConfiguration = serde_json::from_value(object).unwrap();
        let patches = [
            (injection(&mutating, "now"), "MutatingWebhookConfiguration"),
            (
                injection(&validating, "now"),
                "ValidatingWebhookConfiguration",
            ),
        ];
        for (patch, kind) in patches {
            let expected = is_written.then(|| {
                json!({
                    "apiVersion": "admissionregistration.k8s.io/v1",
                    "kind": kind,
                    "webhooks": [
                        { "name": "a.ferrovirt.io", "clientConfig": { "caBundle": "bm93" } },
                        { "name": "b.ferrovirt.io", "clientConfig": { "caBundle": "bm93" } },
                    ],
                })
            });
            assert_eq!(patch, expected, "{bundles:?}");
        }
    }
    let empty = MutatingWebhookConfiguration::default();
    assert_eq!(injection(&empty, "now"), None);
}

#[test]
fn an_api_service_is_told_whom_to_trust() {
    let service = |service: Value, bundle: Option<&str>| -> APIService {
        let bundle = bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec()));
        let spec = json!({
            "groupPriorityMinimum": 1000,
            "versionPriority": 10,
            "service": service,
            "caBundle": bundle,
        });
        serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
    };
    let ours = json!({ "name": "virt-controller", "namespace": "ferrovirt" });
    let expected = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "spec": { "caBundle": "bm93" },
    });
    let cases = [
        (service(ours.clone(), None), Some(&expected)),
        (service(ours.clone(), Some("before")), Some(&expected)),
        (service(ours, Some("now")), None),
        // The API server's own.
        (service(Value::Null, None), None),
    ];
    for (service, expected) in cases {
        let patch = injection(&service, "now");
        assert_eq!(patch.as_ref(), expected, "{service:?}");
    }
}
