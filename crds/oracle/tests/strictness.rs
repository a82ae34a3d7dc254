//! A field that does not exist is refused wherever it stands, with its path.
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use crds::manifest;
use serde_json::Value;

const EVERYTHING: &str = include_str!("data/everything.yaml");

/// The field that does not exist.
const STRAY: &str = "stray";

/// Objects whose keys are the author's own.
const MAPS: [&str; 6] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "requests",
];

#[test]
fn a_stray_field_is_refused_wherever_it_stands() {
    let mut manifest: Value = serde_saphyr::from_str(EVERYTHING).unwrap();
    manifest.as_object_mut().unwrap().remove("status");
    manifest::read(manifest.clone()).unwrap();
    let mut places = Vec::new();
    objects(&manifest, "", "", &mut places);
    assert!(places.len() > 80, "only {} places", places.len());
    for (pointer, path) in places {
        let mut manifest = manifest.clone();
        let object = manifest
            .pointer_mut(&pointer)
            .unwrap()
            .as_object_mut()
            .unwrap();
        object.insert(STRAY.to_owned(), Value::from(1));
        let told = manifest::read(manifest).unwrap_err().to_string();
        assert_eq!(
            told,
            format!("{path}: no such field in kubevirt.io/v1; check its spelling and its place")
        );
    }
}

/// Each object in `value`, as a JSON pointer, and the path that a stray field in it has.
fn objects(value: &Value, pointer: &str, path: &str, places: &mut Vec<(String, String)>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(object) => {
            places.push((pointer.to_owned(), below(STRAY)));
            for (key, value) in object
                .iter()
                .filter(|(key, _)| !MAPS.contains(&key.as_str()))
            {
                objects(value, &format!("{pointer}/{key}"), &below(key), places);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                let (pointer, path) = (format!("{pointer}/{index}"), format!("{path}[{index}]"));
                objects(value, &pointer, &path, places);
            }
        }
        _ => {}
    }
}
