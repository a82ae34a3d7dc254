//! `expose`: a Service that leads to a machine.

mod service;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use crds::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::Service;
use kube_client::Api;
use kube_client::api::PostParams;

use super::Object;
use crate::cli::Global;
use crate::cluster::{Cluster, Machine};
use crate::forward::Reference;
use crate::out;
use crate::target::{CallError, Kind, Name};

/// Arguments of `expose`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    virtctl expose vm demo --name demo-ssh --port 22\n  \
    virtctl expose vmi demo --name demo-web --port 80 --target-port 8080 --type NodePort")]
pub struct Expose {
    #[command(flatten)]
    object: Object,
    #[command(flatten)]
    wanted: Wanted,
}

/// What the Service is to be.
#[derive(Clone, Debug, Args)]
struct Wanted {
    /// The Service's name.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The Service's port.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The guest's port, by number or by name. Default: --port.
    #[arg(long, value_name = "PORT")]
    target_port: Option<String>,
    /// The port's name.
    #[arg(long, value_name = "NAME")]
    port_name: Option<String>,
    /// The port on each node, for --type NodePort. Default: the cluster's choice.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    node_port: Option<u16>,
    /// What the port speaks.
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    protocol: Protocol,
    /// Who reaches the Service.
    #[arg(
        long = "type",
        value_enum,
        ignore_case = true,
        default_value_t,
        value_name = "TYPE"
    )]
    reach: Reach,
    /// The Service's address; None for none. Default: the cluster's choice.
    #[arg(long, value_name = "ADDRESS")]
    cluster_ip: Option<String>,
    /// One more address that leads to the nodes; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    external_ip: Vec<IpAddr>,
    /// The load balancer's address, for --type LoadBalancer.
    #[arg(long, value_name = "ADDRESS")]
    load_balancer_ip: Option<IpAddr>,
    /// The families of addresses, the first one first.
    #[arg(
        long,
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        value_name = "FAMILY"
    )]
    ip_family: Vec<Family>,
    /// How many families.
    #[arg(long, value_enum, ignore_case = true, value_name = "POLICY")]
    ip_family_policy: Option<FamilyPolicy>,
    /// Whether a client always reaches the same machine.
    #[arg(long, value_enum, ignore_case = true, value_name = "AFFINITY")]
    session_affinity: Option<Affinity>,
}

/// A flag whose values are Kubernetes' own words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$mark:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
        enum $name {
            $($(#[$mark])* #[value(name = $word)] $variant,)*
        }

        impl $name {
            fn word(self) -> String {
                match self {
                    $(Self::$variant => $word,)*
                }
                .to_owned()
            }
        }
    };
}

words!(Protocol { #[default] Tcp = "TCP", Udp = "UDP", });
words!(Reach { #[default] Cluster = "ClusterIP", Nodes = "NodePort", Balancer = "LoadBalancer", });
words!(Family { #[default] V4 = "IPv4", V6 = "IPv6", });
words!(FamilyPolicy {
    #[default] Single = "SingleStack",
    PreferDual = "PreferDualStack",
    RequireDual = "RequireDualStack",
});
words!(Affinity { #[default] None = "None", Client = "ClientIP", });

impl Expose {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let Reference {
            kind,
            name,
            namespace,
        } = self.object.reference()?;
        let cluster = global.cluster().await?;
        let namespace = global.namespace(namespace.as_deref(), cluster.namespace());
        let name = Name {
            kind,
            namespace,
            name,
        };
        let labels = labels(&cluster, &name).await?;
        let service = service::make(&self.wanted, &name, labels);
        let services: Api<Service> = Api::namespaced(cluster.client().clone(), &name.namespace);
        let made = services.create(&PostParams::default(), &service).await;
        made.map_err(|error| Machine::new(cluster, name.clone()).failed(error))
            .with_context(|| format!("cannot make the Service of {name}"))?;
        out!(
            "Service {}/{} exposes {name}",
            name.namespace,
            self.wanted.name
        );
        Ok(())
    }
}

/// The labels that the machine's pods have of it.
async fn labels(cluster: &Cluster, name: &Name) -> Result<BTreeMap<String, String>, CallError> {
    let client = cluster.client().clone();
    let failed = |error| Machine::new(cluster.clone(), name.clone()).failed(error);
    let labels = match name.kind {
        Kind::Vm => {
            let vms: Api<VirtualMachine> = Api::namespaced(client, &name.namespace);
            let vm = vms.get(&name.name).await.map_err(failed)?;
            vm.spec.template.metadata.labels
        }
        Kind::Vmi => {
            let vmis: Api<VirtualMachineInstance> = Api::namespaced(client, &name.namespace);
            vmis.get(&name.name).await.map_err(failed)?.metadata.labels
        }
    };
    Ok(labels.unwrap_or_default())
}
