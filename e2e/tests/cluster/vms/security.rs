//! What a launcher may do, and what a stolen token is good for.

use serde_json::{Value, json};

use super::guest::{Guest, mini};
use super::install::{Installation, NAMESPACE};
use crate::api::on_the_node;

/// Prints, of each process of a machine's pod, its name and what it holds.
const HOLDINGS: &str = r#"
for process in /proc/[0-9]*; do
    grep -q POD_UID $process/cgroup 2>/dev/null || continue
    name=$(cat $process/comm)
    holds=$(grep -E '^(Uid|Gid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' $process/status)
    # It may have ended since.
    [ -z "$holds" ] || echo $name $holds
done
"#;

/// Once the guest runs nobody in its pod holds a capability or is root.
pub(crate) async fn a_launcher_holds_nothing(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("privileges").await;
    let guest = Guest::instance(api, namespace, "plain", mini()).await;
    guest.answers().await;
    let vmi = guest.vmi().await.expect("it runs");
    let node = vmi["status"]["nodeName"].as_str().expect("it is on a node");
    api.run_pod(namespace, on_the_node("looker", node)).await;
    let pods = guest.pods().await;
    let pod = api.get("v1", "Pod", Some(namespace), &pods[0]).await;
    let pod = pod.expect("it has a pod");
    let uid = pod.metadata.uid.expect("every object has a uid");
    let holdings = api
        .shell(namespace, "looker", &HOLDINGS.replace("POD_UID", &uid))
        .await;
    let processes: Vec<_> = holdings
        .lines()
        .filter(|line| !line.starts_with("pause "))
        .collect();
    for name in [
        "virt-launcher",
        "virt-worker",
        "qemu-system-x86",
        "virt-sidecar",
    ] {
        assert!(
            processes.iter().any(|line| line.starts_with(name)),
            "no {name}: {holdings}"
        );
    }
    for process in processes {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(
                process.contains(&format!("{set}: 0000000000000000 ")),
                "{process}"
            );
        }
        assert!(process.contains("Uid: 107 107 107 107 "), "{process}");
        assert!(process.contains("Gid: 107 107 107 107 "), "{process}");
        assert!(process.contains("NoNewPrivs: 1 "), "{process}");
        assert!(process.contains("Seccomp: 2"), "{process}");
    }
    let spec = &pod.data["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    let volumes = spec["volumes"].to_string();
    assert!(
        !volumes.contains("serviceAccountToken") && !volumes.contains("hostPath"),
        "{volumes}"
    );
    // It says that it asked QEMU nothing.
    let logs = api.container_logs(namespace, &pods[0], "compute").await;
    assert!(logs.contains("QEMU's capabilities were known"), "{logs}");
    // Whoever may exec sees the pod's network as docs/network.md says.
    let discover = ["exec", "-n", namespace, &pods[0], "-c", "compute", "--"];
    let seen = ferrovirt.kubectl(&[&discover[..], &["netbind", "--json", "discover"]].concat());
    let seen: Value = serde_json::from_str(&seen).expect("netbind prints JSON");
    assert_eq!(seen["interface"], "eth0", "{seen}");
    let address = pod.data["status"]["podIP"].as_str();
    let address = address.expect("its pod has an address");
    assert!(seen["addresses"].to_string().contains(address), "{seen}");
    guest.delete("VirtualMachineInstance").await;
}

/// A handler's token, taken to another node's instances.
pub(crate) async fn a_stolen_token_is_good_for_its_node_only(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("stolen").await;
    let guest = Guest::instance(api, namespace, "target", mini()).await;
    let vmi = guest.phase("Running").await;
    let own = vmi["status"]["nodeName"].as_str().expect("it is on a node");
    for node in api.nodes().await {
        let thief = ferrovirt.token_of_handler(&node).await;
        let thief = api.with_token(&thief);
        let patch = json!({"status": {"reason": "Stolen"}});
        let tried = thief.patch_status(
            "kubevirt.io/v1",
            "VirtualMachineInstance",
            namespace,
            "target",
            &patch,
        );
        let tried = tried.await;
        let label = json!({"metadata": {"labels": {"stolen": "yes"}}});
        let labelled = thief.patch("v1", "Node", None, &node, &label);
        let error = labelled.await.expect_err("no label but ours").to_string();
        assert!(error.contains("kubevirt.io only"), "{error}");
        if node == own {
            tried.expect("a handler writes what belongs to its node");
        } else {
            let error = tried
                .expect_err("another node's handler must not")
                .to_string();
            assert!(error.contains("own node"), "{error}");
            let other = thief.patch("v1", "Node", None, own, &label);
            let error = other.await.expect_err("nor its node").to_string();
            assert!(error.contains("own node"), "{error}");
        }
        for (version, kind, name) in [
            ("v1", "Secret", "virt-controller-certificates"),
            ("v1", "ConfigMap", "any"),
        ] {
            let read = thief.get(version, kind, Some(NAMESPACE), name).await;
            assert!(read.is_err(), "{kind}");
        }
    }
    guest.delete("VirtualMachineInstance").await;
}

/// A launcher that is taken over puts another's socket in the place of its own.
pub(crate) async fn a_lying_launcher_gains_nothing(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("lies").await;
    let node = &api.nodes().await[0];
    let here = || {
        let mut spec = mini();
        spec["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        spec
    };
    let liar = Guest::instance(api, namespace, "liar", here()).await;
    let other = Guest::instance(api, namespace, "other", here()).await;
    let (own_address, other_address) = (liar.answers().await, other.answers().await);
    api.run_pod(namespace, on_the_node("trick", node)).await;
    let runtime = async |guest: &Guest<'_>| {
        let pods = guest.pods().await;
        let pod = api.get("v1", "Pod", Some(namespace), &pods[0]).await;
        let uid = pod.expect("it has a pod").metadata.uid;
        let uid = uid.expect("every object has a uid");
        format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/runtime")
    };
    let (own, others) = (runtime(&liar).await, runtime(&other).await);
    for trick in ["ln -s", "ln", "mkfifo"] {
        let target = if trick == "mkfifo" {
            ""
        } else {
            &format!("{others}/launcher.sock")
        };
        let script = format!(
            "cd /proc/1/root{own} && rm -f launcher.sock &&
             chroot /proc/1/root sh -c '{trick} {target} {own}/launcher.sock'"
        );
        api.shell(namespace, "trick", &script).await;
        // The next handler looks at everything anew; it tells of the other what is true.
        let _ = api
            .try_shell(namespace, "trick", "kill -9 $(pidof virt-handler)")
            .await;
        ferrovirt.ready().await;
        // A machine, as the kubelet refuses pods until the handler has offered its devices again.
        let seen = Guest::machine(api, namespace, "later", "Always", here()).await;
        seen.answers().await;
        let liars = liar.vmi().await.expect("it is there");
        let address = &liars["status"]["interfaces"][0]["ipAddress"];
        assert_eq!(address, &json!(own_address), "{trick}: {liars:#}");
        let vmi = other.vmi().await.expect("it is there");
        assert_eq!(vmi["status"]["phase"], "Running", "{trick}: {vmi:#}");
        let address = &vmi["status"]["interfaces"][0]["ipAddress"];
        assert_eq!(address, &json!(other_address), "{trick}: {vmi:#}");
        seen.delete("VirtualMachine").await;
    }
    liar.delete("VirtualMachineInstance").await;
    other.delete("VirtualMachineInstance").await;
}

/// What each account may do is what is written down, and no more.
pub(crate) fn accounts_can_do_what_is_written(ferrovirt: &Installation<'_>) {
    for account in ["virt-controller", "virt-handler"] {
        let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
        for namespace in [NAMESPACE, "default"] {
            let list = [
                "auth",
                "can-i",
                "--list",
                &user,
                "-n",
                namespace,
                "--no-headers",
            ];
            let list = ferrovirt.kubectl(&list);
            let mut lines: Vec<_> = list.lines().map(rule).collect();
            lines.sort();
            // What every account of a cluster may do is not ours.
            lines.retain(|line| !line.starts_with('[') && !line.starts_with("selfsubject"));
            let file = e2e::repository().join(format!(
                "e2e/tests/cluster/vms/can-i/{account}.{namespace}.txt"
            ));
            let written = std::fs::read_to_string(&file).unwrap_or_default();
            let now = lines.join("\n") + "\n";
            assert_eq!(now, written, "{}", file.display());
        }
    }
}

/// A line of `kubectl auth can-i --list`, with its verbs in order.
fn rule(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((what, verbs)) = line.rsplit_once('[') else {
        return line;
    };
    let mut verbs: Vec<_> = verbs.trim_end_matches(']').split(' ').collect();
    verbs.sort_unstable();
    format!("{what}[{}]", verbs.join(" "))
}
