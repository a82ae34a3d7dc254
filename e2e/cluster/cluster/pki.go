package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs certificates and keeps them as files of one directory.
type authority struct {
	directory string
	name      string
	key       *ecdsa.PrivateKey
	cert      *x509.Certificate
}

// newAuthority makes NAME.crt and NAME.key.
func newAuthority(directory, name string) (*authority, error) {
	a := &authority{directory: directory, name: name}
	template := certificate(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, key, err := a.write(name, template)
	if err != nil {
		return nil, err
	}
	a.key = key
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

func certificate(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      subject,
		// Clocks of one machine may still step.
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.AddDate(1, 0, 0),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

// client makes a client certificate: the user and group that the API server sees.
func (a *authority) client(file, user, group string) error {
	subject := pkix.Name{CommonName: user}
	if group != "" {
		subject.Organization = []string{group}
	}
	template := certificate(subject)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	_, _, err := a.write(file, template)
	return err
}

// server makes a server certificate for names and addresses.
func (a *authority) server(file, user string, names []string, addresses ...string) error {
	template := certificate(pkix.Name{CommonName: user})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = names
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	_, _, err := a.write(file, template)
	return err
}

func (a *authority) write(file string, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := newKey(a.path(file + ".key"))
	if err != nil {
		return nil, nil, err
	}
	signer, parent := a.key, a.cert
	if signer == nil {
		signer, parent = key, template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate %s: %w", file, err)
	}
	return der, key, writePEM(a.path(file+".crt"), "CERTIFICATE", der)
}

func (a *authority) path(file string) string { return filepath.Join(a.directory, file) }

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// kubeconfig makes a client certificate and the kubeconfig that holds it.
func (a *authority) kubeconfig(file, user, group string) error {
	if err := a.client(file, user, group); err != nil {
		return err
	}
	var data [3]string
	for i, name := range []string{a.name + ".crt", file + ".crt", file + ".key"} {
		bytes, err := os.ReadFile(a.path(name))
		if err != nil {
			return err
		}
		data[i] = base64.StdEncoding.EncodeToString(bytes)
	}
	return os.WriteFile(a.path(file+".kubeconfig"), fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: ferrovirt, cluster: {server: "https://%s:%d", certificate-authority-data: %s}}]
users: [{name: %q, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: ferrovirt, context: {cluster: ferrovirt, user: %q}}]
current-context: ferrovirt
`, controlV4, apiPort, data[0], user, data[1], data[2], user), 0o600)
}

// makePKI makes every key and kubeconfig of a cluster in a directory.
func makePKI(directory string, nodes []Node) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(directory, "ca")
	if err != nil {
		return err
	}
	frontProxy, err := newAuthority(directory, "front-proxy-ca")
	if err != nil {
		return err
	}
	key, err := newKey(filepath.Join(directory, "service-accounts.key"))
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	const service = "kubernetes.default.svc"
	steps := []error{
		writePEM(filepath.Join(directory, "service-accounts.pub"), "PUBLIC KEY", public),
		ca.server("apiserver", "kube-apiserver",
			[]string{"localhost", "kubernetes", "kubernetes.default", service, service + "." + domain},
			"127.0.0.1", "::1", controlV4, controlV6, kubernetesV4, kubernetesV6),
		ca.client("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
		frontProxy.client("front-proxy", "front-proxy", ""),
		ca.kubeconfig("admin", "kubernetes-admin", "system:masters"),
		ca.kubeconfig("controller-manager", "system:kube-controller-manager", ""),
		ca.kubeconfig("scheduler", "system:kube-scheduler", ""),
		ca.kubeconfig("proxy", "system:kube-proxy", ""),
		// CoreDNS runs beside the API server, not in a pod; it needs no role of its own.
		ca.kubeconfig("dns", "system:coredns", "system:masters"),
	}
	for _, node := range nodes {
		user := "system:node:" + node.Name
		steps = append(steps,
			ca.kubeconfig(node.Name, user, "system:nodes"),
			ca.server(node.Name+"-kubelet", user, []string{node.Name}, "127.0.0.1", node.V4.String(), node.V6.String()))
	}
	for _, err := range steps {
		if err != nil {
			return err
		}
	}
	return nil
}
