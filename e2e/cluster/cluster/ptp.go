package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkLocalPtp is the name that our CNI plugin is called by. It gives pods what Calico gives them:
// an address with no subnet, and a gateway that is nowhere but in the node's proxy ARP.
//
//	pod: eth0 10.244.1.7/32, default via 169.254.1.1 ── veth ── node: 10.244.1.7 dev lp…
const linkLocalPtp = "link-local-ptp"

// gatewayMAC is every node's end's, and gatewayV6 the link-local address that follows from it.
const (
	gatewayV4  = "169.254.1.1"
	gatewayMAC = "ee:ee:ee:ee:ee:ee"
	gatewayV6  = "fe80::ecee:eeff:feee:eeee"
)

func linkLocalPtpMain() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: ptpAdd, Del: ptpDel, Check: ptpCheck}, version.All,
		"pods with link-local gateways")
}

func ptpAdd(args *skel.CmdArgs) error {
	config, err := ptpConfig(args)
	if err != nil {
		return err
	}
	leased, err := invoke.DelegateAdd(context.Background(), config.IPAM.Type, args.StdinData, nil)
	if err != nil {
		return err
	}
	result, err := current.NewResultFromResult(leased)
	if err != nil {
		return err
	}
	if err := connectPod(args, result); err != nil {
		_ = invoke.DelegateDel(context.Background(), config.IPAM.Type, args.StdinData, nil)
		return err
	}
	return types.PrintResult(result, config.CNIVersion)
}

// connectPod makes the link and fills the result.
func connectPod(args *skel.CmdArgs, result *current.Result) error {
	namespace, err := os.Open(args.Netns)
	if err != nil {
		return err
	}
	defer namespace.Close()
	mac, err := net.ParseMAC(gatewayMAC)
	if err != nil {
		return err
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: hostLink(args), HardwareAddr: mac},
		PeerName:      args.IfName,
		PeerNamespace: netlink.NsFd(namespace.Fd()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %s: %w", veth.Name, err)
	}
	for name, value := range map[string]string{
		"ipv4/conf/%s/proxy_arp":    "1",
		"ipv4/neigh/%s/proxy_delay": "0",
		// Each node's end has this one address, on a link of its own.
		"ipv6/conf/%s/accept_dad": "0",
	} {
		path := "/proc/sys/net/" + fmt.Sprintf(name, veth.Name)
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("link %s: %w", veth.Name, err)
	}
	host, err := netlink.LinkByName(veth.Name)
	if err != nil {
		return err
	}
	var addresses []netip.Addr
	for _, ip := range result.IPs {
		address, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return fmt.Errorf("address %s: not an IP address", ip.Address)
		}
		address = address.Unmap()
		addresses = append(addresses, address)
		ip.Address = *ipNet(netip.PrefixFrom(address, address.BitLen()))
		ip.Gateway = nil
		ip.Interface = current.Int(1)
		route := &netlink.Route{LinkIndex: host.Attrs().Index, Dst: &ip.Address, Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s: %w", address, err)
		}
	}
	var pod netlink.Link
	err = inNamespace(namespace, func() error {
		pod, err = addressPod(args.IfName, addresses)
		return err
	})
	if err != nil {
		return err
	}
	result.Interfaces = []*current.Interface{
		{Name: veth.Name, Mac: host.Attrs().HardwareAddr.String()},
		{Name: args.IfName, Mac: pod.Attrs().HardwareAddr.String(), Sandbox: args.Netns},
	}
	return nil
}

// addressPod gives the pod's end its addresses and routes.
func addressPod(name string, addresses []netip.Addr) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, err
	}
	for _, address := range addresses {
		one := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(address, address.BitLen()))}
		gateway, all := netip.MustParseAddr(gatewayV4), "0.0.0.0/0"
		if address.Is6() {
			one.Flags = unix.IFA_F_NODAD
			gateway, all = netip.MustParseAddr(gatewayV6), "::/0"
		}
		if err := netlink.AddrAdd(link, one); err != nil {
			return nil, fmt.Errorf("address %s: %w", address, err)
		}
		index := link.Attrs().Index
		for _, route := range []*netlink.Route{
			{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(gateway, gateway.BitLen())), Scope: netlink.SCOPE_LINK},
			{LinkIndex: index, Dst: ipNet(netip.MustParsePrefix(all)), Gw: gateway.AsSlice()},
		} {
			if err := netlink.RouteAdd(route); err != nil {
				return nil, fmt.Errorf("route to %s: %w", route.Dst, err)
			}
		}
	}
	return link, nil
}

func ptpDel(args *skel.CmdArgs) error {
	config, err := ptpConfig(args)
	if err != nil {
		return err
	}
	if err := invoke.DelegateDel(context.Background(), config.IPAM.Type, args.StdinData, nil); err != nil {
		return err
	}
	// Its other end, and the routes through it, go with it. Done already is done well.
	link, err := netlink.LinkByName(hostLink(args))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

func ptpCheck(args *skel.CmdArgs) error {
	config, err := ptpConfig(args)
	if err != nil {
		return err
	}
	if _, err := netlink.LinkByName(hostLink(args)); err != nil {
		return fmt.Errorf("link %s: %w", hostLink(args), err)
	}
	return invoke.DelegateCheck(context.Background(), config.IPAM.Type, args.StdinData, nil)
}

func ptpConfig(args *skel.CmdArgs) (*types.NetConf, error) {
	config := new(types.NetConf)
	if err := json.Unmarshal(args.StdinData, config); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return config, nil
}

// hostLink is the node's end of a pod's link: an interface's name has at most 15 bytes.
func hostLink(args *skel.CmdArgs) string {
	return fmt.Sprintf("lp%x", sha256.Sum256([]byte(args.ContainerID+args.IfName)))[:13]
}

// inNamespace runs a task in a network namespace, on a thread that ends with it.
func inNamespace(namespace *os.File, task func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread goes, and with it where it was.
		runtime.LockOSThread()
		err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = task()
		}
		done <- err
	}()
	return <-done
}
