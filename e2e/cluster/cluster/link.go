package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nodeLink is the bridge in the control plane's namespace that all nodes are plugged into.
const nodeLink = "nodes"

// controlNetwork prepares the control plane's namespace: its end of the link between nodes, the
// pods behind each node, and no way out.
func controlNetwork(nodes []Node) error {
	if err := loopback(); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: nodeLink}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge %s: %w", nodeLink, err)
	}
	err := address(bridge, netip.MustParseAddr(controlV4), netip.MustParseAddr(controlV6))
	if err != nil {
		return err
	}
	return podRoutes(bridge, nodes)
}

// plug gives the process's network namespace its eth0, on the link between nodes.
func plug(node Node, pid int) error {
	bridge, err := netlink.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", nodeLink, err)
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: node.Name, MasterIndex: bridge.Attrs().Index},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("link of %s: %w", node.Name, err)
	}
	return setLink(node, true)
}

// setLink cuts a node off from everything else, or joins it again.
func setLink(node Node, up bool) error {
	link, err := netlink.LinkByName(node.Name)
	if err != nil {
		return fmt.Errorf("link of %s: %w", node.Name, err)
	}
	if up {
		return netlink.LinkSetUp(link)
	}
	return netlink.LinkSetDown(link)
}

// nodeNetwork prepares a node's namespace, once it has its eth0.
func nodeNetwork(spec Spec, node Node) error {
	if err := loopback(); err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("eth0: %w", err)
	}
	if err := address(eth0, node.V4, node.V6); err != nil {
		return err
	}
	var others []Node
	for _, other := range spec.All() {
		if other.Number != node.Number {
			others = append(others, other)
		}
	}
	if err := podRoutes(eth0, others); err != nil {
		return err
	}
	// A process of the node itself needs some route to a Service before kube-proxy's rules see its
	// packet; the kernel answers for a gateway that it would find elsewhere (proxy ARP).
	for _, through := range []string{servicesV4, servicesV6, gatewayV4 + "/32"} {
		route := &netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: ipNet(netip.MustParsePrefix(through))}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s: %w", through, err)
		}
	}
	for _, setting := range [][2]string{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv6/conf/all/forwarding", "1"},
		// Where pods share a bridge, kube-proxy sees what they send to each other's Services.
		{"net/bridge/bridge-nf-call-iptables", "1"},
		{"net/bridge/bridge-nf-call-ip6tables", "1"},
	} {
		err := os.WriteFile("/proc/sys/"+setting[0], []byte(setting[1]), 0)
		if err != nil && !(errors.Is(err, os.ErrNotExist) && spec.CNI != "bridge") {
			return fmt.Errorf("sysctl: %w", err)
		}
	}
	return nil
}

func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	// Who looks for a cloud's metadata gets its answer at once.
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		route := &netlink.Route{Type: unix.RTN_UNREACHABLE, Dst: ipNet(netip.MustParsePrefix(all))}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("unreachable %s: %w", all, err)
		}
	}
	return nil
}

// address brings a link up with its two addresses.
func address(link netlink.Link, v4, v6 netip.Addr) error {
	for address, bits := range map[netip.Addr]int{v4: linkBitsV4, v6: linkBitsV6} {
		one := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(address, bits))}
		if address.Is6() {
			one.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, one); err != nil {
			return fmt.Errorf("address %s: %w", address, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: %w", link.Attrs().Name, err)
	}
	return nil
}

func podRoutes(link netlink.Link, nodes []Node) error {
	for _, node := range nodes {
		for pods, via := range map[netip.Prefix]netip.Addr{node.PodsV4: node.V4, node.PodsV6: node.V6} {
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(pods), Gw: via.AsSlice()}
			if err := netlink.RouteReplace(route); err != nil {
				return fmt.Errorf("route to %s: %w", pods, err)
			}
		}
	}
	return nil
}

// ipNet keeps the address, where netip.Prefix.Masked would not.
func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}
}
