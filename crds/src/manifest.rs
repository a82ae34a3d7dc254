//! Reading manifests, strictly.
//!
//! ```text
//! text --YAML--> documents --exactly one--> JSON value --typed, nothing ignored--> Manifest
//! ```
//!
//! A field that is not in our types is an error with its path: dropping it would run another
//! machine than the one that was asked for. `status` is left out, as Kubernetes does on create.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::annotation::{self, instance_annotations};
use crate::field::Field;
use crate::unsupported::why_unknown;
use crate::validate::{validate, validate_vm, validate_vmi};
use crate::{FieldError, FieldErrors, KubeVirt, VirtualMachine, VirtualMachineInstance, default};

/// A VirtualMachine or a VirtualMachineInstance, as its author wrote it.
#[derive(Clone, Debug, PartialEq)]
pub enum Manifest {
    /// A VirtualMachine.
    Vm(Box<VirtualMachine>),
    /// A VirtualMachineInstance.
    Vmi(Box<VirtualMachineInstance>),
}

/// A manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is no YAML.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// The text holds no document.
    #[error("the manifest is empty; write one VirtualMachine or VirtualMachineInstance")]
    Empty,
    /// The text holds more than one document.
    #[error("the manifest holds {0} documents; leave one VirtualMachine or VirtualMachineInstance")]
    Several(usize),
    /// The document is another object, or none.
    #[error(
        "{found} is not a machine; write apiVersion: kubevirt.io/v1 and kind: VirtualMachine or \
         VirtualMachineInstance"
    )]
    Kind {
        /// What the document says it is.
        found: String,
    },
    /// Fields are unknown, missing or of the wrong type.
    #[error("{0}")]
    Fields(FieldErrors),
}

/// Reads the one manifest that `text`, YAML or JSON, holds.
///
/// # Errors
/// When the text is no YAML, holds no document or several, another object than a VirtualMachine
/// or VirtualMachineInstance, or a field that is unknown, missing or of the wrong type.
pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(syntax)?;
    match (documents.pop(), documents.len()) {
        (None, _) => Err(ManifestError::Empty),
        (Some(document), 0) => read(document),
        (Some(_), others) => Err(ManifestError::Several(others + 1)),
    }
}

/// Reads a manifest from a JSON value, such as the object of an admission review.
///
/// # Errors
/// As [`parse`], from the object on.
pub fn read(value: Value) -> Result<Manifest, ManifestError> {
    let Value::Object(mut object) = value else {
        return Err(ManifestError::Kind {
            found: "a document that is no object".to_owned(),
        });
    };
    let (version, kind) = (
        text_of(&mut object, "apiVersion"),
        text_of(&mut object, "kind"),
    );
    object.remove("status");
    if version == VirtualMachine::api_version(&()) {
        if kind == VirtualMachine::kind(&()) {
            return typed(object)
                .map(Manifest::Vm)
                .map_err(ManifestError::Fields);
        }
        if kind == VirtualMachineInstance::kind(&()) {
            return typed(object)
                .map(Manifest::Vmi)
                .map_err(ManifestError::Fields);
        }
    }
    let found = match (version.as_str(), kind.as_str()) {
        ("", "") => "a document without apiVersion and kind".to_owned(),
        (version, "") => format!("an object of {version} without kind"),
        ("", kind) => format!("a {kind} without apiVersion"),
        (version, kind) => format!("a {kind} of {version}"),
    };
    Err(ManifestError::Kind { found })
}

/// Reads the cluster's settings from a JSON value, such as the object of an admission review.
///
/// # Errors
/// When a field is unknown, missing or of the wrong type.
pub fn read_kubevirt(value: Value) -> Result<KubeVirt, FieldErrors> {
    let Value::Object(mut object) = value else {
        let (path, detail) = ("spec".to_owned(), "required; add it".to_owned());
        return Err(FieldErrors(vec![FieldError { path, detail }]));
    };
    for key in ["apiVersion", "kind", "status"] {
        object.remove(key);
    }
    typed(object)
}

impl Manifest {
    /// The manifest's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Vm(vm) => &vm.metadata,
            Self::Vmi(vmi) => &vmi.metadata,
        }
    }

    /// The instance that the manifest describes: itself, or the one that the VirtualMachine's
    /// template makes, with the machine's name and namespace and the template's labels and
    /// annotations. Of the machine's own annotations it has those that Ferrovirt reads.
    pub fn into_vmi(self) -> VirtualMachineInstance {
        match self {
            Self::Vmi(vmi) => *vmi,
            Self::Vm(vm) => {
                let annotations = instance_annotations(&vm);
                let template = vm.spec.template;
                VirtualMachineInstance {
                    metadata: ObjectMeta {
                        name: vm.metadata.name,
                        namespace: vm.metadata.namespace,
                        labels: template.metadata.labels,
                        annotations: Some(annotations).filter(|all| !all.is_empty()),
                        ..ObjectMeta::default()
                    },
                    spec: template.spec,
                    status: None,
                }
            }
        }
    }

    /// All that is wrong with the manifest once it has its defaults, by paths in the manifest as
    /// it was written: below `spec.template.spec` for a VirtualMachine.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut vmi = self.clone().into_vmi();
        default(&mut vmi);
        match self {
            Self::Vmi(_) => validate(&vmi),
            Self::Vm(vm) => {
                let mut errors = validate_vm(&vm.spec);
                let template = &vm.spec.template.metadata.annotations;
                for (annotations, at) in [
                    (&vm.metadata.annotations, "metadata"),
                    (template, "spec.template.metadata"),
                ] {
                    annotation::check(annotations.as_ref(), &Field::root(at), &mut errors);
                }
                errors.extend(validate_vmi(&vmi, &Field::root("spec.template.spec")));
                errors
            }
        }
    }
}

/// Takes the string `key` out of `object`; empty if there is none.
fn text_of(object: &mut Map<String, Value>, key: &str) -> String {
    match object.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn syntax(error: serde_saphyr::Error) -> ManifestError {
    let (line, column) = error
        .location()
        .map_or((1, 1), |location| (location.line(), location.column()));
    let rendered = error
        .without_snippet()
        .render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let message = rendered.lines().collect::<Vec<_>>().join(" ");
    let place = format!(" at line {line}, column {column}");
    ManifestError::Syntax {
        line,
        column,
        message: message.trim_end_matches(&place).to_owned(),
    }
}

/// Reads a typed object and notes every field that its type does not have.
fn typed<T: DeserializeOwned>(mut object: Map<String, Value>) -> Result<T, FieldErrors> {
    object.values_mut().for_each(drop_nulls);
    let mut errors = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let value = Value::Object(object);
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path| {
        let path = path_of(&path);
        let detail = why_unknown(&path);
        errors.push(FieldError { path, detail });
    });
    match result {
        Ok(typed) if errors.is_empty() => Ok(typed),
        Ok(_) => Err(FieldErrors(errors)),
        Err(error) => {
            errors.push(wrong(track.path().to_string(), &error.to_string()));
            Err(FieldErrors(errors))
        }
    }
}

/// Takes out the fields that are null: to Kubernetes they are not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// An ignored field's path, written as Kubernetes writes paths.
fn path_of(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", path_of(parent)),
        Path::Map { parent, key } => match path_of(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => path_of(parent),
    }
}

/// What serde says about a field that is missing or of the wrong type, in a user's words.
fn wrong(path: String, message: &str) -> FieldError {
    if let Some(name) = message.strip_prefix("missing field `") {
        let name = name.trim_end_matches('`');
        let path = match path.as_str() {
            "." => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let detail = "required; add it".to_owned();
        return FieldError { path, detail };
    }
    let detail = match message.split_once(", expected ") {
        Some((found, expected)) => format!("{found}; write {}", in_yaml_terms(expected)),
        None => message.to_owned(),
    };
    FieldError { path, detail }
}

/// Rust's names of types as a writer of YAML knows them.
fn in_yaml_terms(expected: &str) -> &str {
    match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "i32" | "i64" => "a whole number",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}
