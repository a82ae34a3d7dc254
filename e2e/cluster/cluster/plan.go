package main

import (
	"fmt"
	"net/netip"
)

// Spec is what a cluster is made from.
type Spec struct {
	// Name tells clusters of one work tree apart.
	Name string `json:"name"`
	// Nodes is how many there are, at least one and at most 200.
	Nodes int `json:"nodes"`
	// CNI is the pod network's shape: "bridge" or "ptp".
	CNI string `json:"cni"`
}

// The addresses are the same in every cluster: each has network namespaces of its own.
const (
	// On the link between the nodes; `.1` is the control plane's end.
	controlV4  = "172.30.0.1"
	controlV6  = "fd00:172:30::1"
	linkBitsV4 = 24
	linkBitsV6 = 64

	podsV4 = "10.244.0.0/16"
	podsV6 = "fd00:10:244::/48"

	servicesV4   = "10.96.0.0/16"
	servicesV6   = "fd00:10:96::/112"
	kubernetesV4 = "10.96.0.1"
	kubernetesV6 = "fd00:10:96::1"
	dnsV4        = "10.96.0.10"
	dnsV6        = "fd00:10:96::a"

	apiPort      = 6443
	registryPort = 5000
	domain       = "cluster.local"
)

// Node is where one node lies in the cluster's networks.
type Node struct {
	// Number counts from 1.
	Number int
	Name   string
	// V4 and V6 are its addresses on the link between nodes.
	V4, V6 netip.Addr
	// PodsV4 and PodsV6 hold the addresses of its pods.
	PodsV4, PodsV6 netip.Prefix
}

// Node gives node number n, from 1.
func (s Spec) Node(n int) Node {
	return Node{
		Number: n,
		Name:   fmt.Sprintf("node%d", n),
		V4:     netip.AddrFrom4([4]byte{172, 30, 0, byte(10 + n)}),
		V6:     netip.MustParseAddr(fmt.Sprintf("fd00:172:30::%x", 0x10+n)),
		PodsV4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24),
		PodsV6: netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", n)),
	}
}

// All gives every node, in order.
func (s Spec) All() []Node {
	nodes := make([]Node, s.Nodes)
	for i := range nodes {
		nodes[i] = s.Node(i + 1)
	}
	return nodes
}

// Check says what is wrong with a spec, and what would be right.
func (s Spec) Check() error {
	if s.Name == "" || len(s.Name) > 40 {
		return fmt.Errorf("name %q: it has 1 to 40 characters", s.Name)
	}
	for _, c := range s.Name {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return fmt.Errorf("name %q: it is made of a-z, 0-9 and -", s.Name)
		}
	}
	if s.Nodes < 1 || s.Nodes > 200 {
		return fmt.Errorf("%d nodes: there can be 1 to 200", s.Nodes)
	}
	if s.CNI != "bridge" && s.CNI != "ptp" {
		return fmt.Errorf("CNI %q: there are bridge and ptp", s.CNI)
	}
	return nil
}

// Component is a program that runs until its namespace ends, and is started again where it ends
// before that.
type Component struct {
	Name string
	Args []string
}

// controlComponents are the programs of the control plane; `dir` is the cluster's directory.
func controlComponents(dir string) []Component {
	pki := dir + "/pki/"
	client := func(name string) string { return pki + name + ".kubeconfig" }
	return []Component{
		{"etcd", []string{
			"--name=etcd", "--data-dir=" + dir + "/etcd",
			// It lives as long as the machine does.
			"--unsafe-no-fsync",
			"--log-level=warn",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=etcd=http://127.0.0.1:2380",
		}},
		{"kube-apiserver", []string{
			"--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=::", fmt.Sprintf("--secure-port=%d", apiPort), "--advertise-address=" + controlV4,
			"--service-cluster-ip-range=" + servicesV4 + "," + servicesV6,
			"--allow-privileged=true",
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--client-ca-file=" + pki + "ca.crt",
			"--tls-cert-file=" + pki + "apiserver.crt", "--tls-private-key-file=" + pki + "apiserver.key",
			"--kubelet-client-certificate=" + pki + "apiserver-kubelet.crt",
			"--kubelet-client-key=" + pki + "apiserver-kubelet.key",
			"--kubelet-certificate-authority=" + pki + "ca.crt",
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc." + domain,
			"--service-account-key-file=" + pki + "service-accounts.pub",
			"--service-account-signing-key-file=" + pki + "service-accounts.key",
			"--requestheader-client-ca-file=" + pki + "front-proxy-ca.crt",
			"--requestheader-allowed-names=front-proxy",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + pki + "front-proxy.crt", "--proxy-client-key-file=" + pki + "front-proxy.key",
			// The control plane is no node, so no kube-proxy serves it: it dials pods, not Services.
			"--enable-aggregator-routing=true",
			// What pods write, so that a test can count it.
			"--audit-policy-file=" + dir + "/audit.yaml",
			"--audit-log-path=" + dir + "/log/audit.log",
		}},
		{"kube-controller-manager", []string{
			"--kubeconfig=" + client("controller-manager"),
			"--authentication-kubeconfig=" + client("controller-manager"),
			"--authorization-kubeconfig=" + client("controller-manager"),
			"--bind-address=127.0.0.1", "--leader-elect=false",
			"--use-service-account-credentials=true",
			"--service-account-private-key-file=" + pki + "service-accounts.key",
			"--root-ca-file=" + pki + "ca.crt",
			"--cluster-signing-cert-file=" + pki + "ca.crt", "--cluster-signing-key-file=" + pki + "ca.key",
			"--allocate-node-cidrs=false",
			// A lost node is seen in a test's time.
			"--node-monitor-period=2s", "--node-monitor-grace-period=16s",
		}},
		{"kube-scheduler", []string{
			"--kubeconfig=" + client("scheduler"),
			"--authentication-kubeconfig=" + client("scheduler"), "--authorization-kubeconfig=" + client("scheduler"),
			"--bind-address=127.0.0.1", "--leader-elect=false",
		}},
		{"coredns", []string{"-conf", dir + "/Corefile"}},
	}
}

// corefile is CoreDNS's configuration.
func corefile(dir string) string {
	return fmt.Sprintf(`.:53 {
    errors
    ready 127.0.0.1:8181
    kubernetes %s in-addr.arpa ip6.arpa {
        kubeconfig %s
        ttl 5
    }
    cache 5
}
`, domain, dir+"/pki/dns.kubeconfig")
}

// auditPolicy has the API server tell who wrote what with a service account.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts"]
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

// nodeComponents are the programs of a node, at the paths that its root file system has.
func nodeComponents(node Node) []Component {
	return []Component{
		{"containerd", []string{"--config=/etc/containerd/config.toml"}},
		{"kubelet", []string{
			"--config=/etc/kubernetes/kubelet.yaml",
			"--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
			"--hostname-override=" + node.Name,
			fmt.Sprintf("--node-ip=%s,%s", node.V4, node.V6),
		}},
		{"kube-proxy", []string{"--config=/etc/kubernetes/proxy.yaml"}},
	}
}

// nodeFiles are the files of a node's /etc that a cluster's node has and no other machine.
func nodeFiles(spec Spec, node Node) map[string]string {
	registry := fmt.Sprintf("http://%s:%d", controlV4, registryPort)
	return map[string]string{
		"hostname": node.Name + "\n",
		"hosts": fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n%s %s\n%s registry\n",
			node.V4, node.Name, node.V6, node.Name, controlV4),
		"resolv.conf": fmt.Sprintf("nameserver %s\n", controlV4),
		"kubernetes/kubelet.yaml": fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/kubelet.crt
tlsPrivateKeyFile: /etc/kubernetes/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [%s]
clusterDomain: %s
resolvConf: /etc/resolv.conf
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
nodeStatusUpdateFrequency: 2s
# What tests kill comes back in a test's time, however often.
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
nodeLeaseDurationSeconds: 12
`, dnsV4, domain),
		"kubernetes/proxy.yaml": fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /etc/kubernetes/proxy.kubeconfig}
mode: iptables
clusterCIDR: %s,%s
hostnameOverride: %s
bindAddress: %s
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, podsV4, podsV6, node.Name, node.V4),
		"containerd/config.toml": `version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry:5000/ferrovirt/pause:devel"
  disable_apparmor = true
  # A process needs CAP_SYS_RESOURCE to make itself less likely to be killed.
  restrict_oom_score_adj = true
  # A pod that is not root may use the block devices that its claims give it.
  device_ownership_from_security_context = true
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
`,
		// Every image comes from the cluster's own registry, whatever registry its name has.
		"containerd/certs.d/_default/hosts.toml": fmt.Sprintf(`server = %q
[host.%q]
  capabilities = ["pull", "resolve"]
`, registry, registry),
		"cni/net.d/10-pods.conflist": cniConfig(spec, node),
	}
}

// cniConfig is the pod network of one node.
func cniConfig(spec Spec, node Node) string {
	ipam := fmt.Sprintf(`{"type": "host-local", "ranges": [[{"subnet": "%s"}], [{"subnet": "%s"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}`, node.PodsV4, node.PodsV6)
	plugin := fmt.Sprintf(`{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": %s}`, ipam)
	if spec.CNI == "ptp" {
		plugin = fmt.Sprintf(`{"type": "link-local-ptp", "ipam": %s}`, ipam)
	}
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  %s,
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`, plugin)
}
