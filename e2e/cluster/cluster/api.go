package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// api speaks to the API server; a client library is not worth its weight for four requests.
type api struct{ client *http.Client }

func newAPI(pki string) (*api, error) {
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	own, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.crt"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}}
	return &api{&http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

func (a *api) do(method, path, kind string, body []byte) ([]byte, error) {
	url := fmt.Sprintf("https://127.0.0.1:%d%s", apiPort, path)
	request, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", kind)
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	}
	return answer, err
}

func (a *api) ready() error {
	_, err := a.do(http.MethodGet, "/readyz", "", nil)
	return err
}

// applyDNS makes the Service through which pods reach CoreDNS.
func (a *api) applyDNS() error {
	ports := `[{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]`
	objects := []struct{ path, body string }{
		{"/api/v1/namespaces/kube-system/services/kube-dns", fmt.Sprintf(`{
			"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
			"spec": {"clusterIP": %q, "clusterIPs": [%q, %q], "ipFamilies": ["IPv4", "IPv6"],
				"ipFamilyPolicy": "RequireDualStack", "ports": %s}}`, dnsV4, dnsV4, dnsV6, ports)},
	}
	for family, address := range map[string]string{"IPv4": controlV4, "IPv6": controlV6} {
		name := map[string]string{"IPv4": "kube-dns-v4", "IPv6": "kube-dns-v6"}[family]
		objects = append(objects, struct{ path, body string }{
			"/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/" + name, fmt.Sprintf(`{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": %q,
			"metadata": {"name": %q, "labels": {"kubernetes.io/service-name": "kube-dns"}},
			"endpoints": [{"addresses": [%q]}], "ports": %s}`, family, name, address, ports)})
	}
	for _, object := range objects {
		path := object.path + "?fieldManager=cluster&force=true"
		if _, err := a.do(http.MethodPatch, path, "application/apply-patch+yaml", []byte(object.body)); err != nil {
			return err
		}
	}
	return nil
}

func (a *api) nodesReady(wanted int) error {
	body, err := a.do(http.MethodGet, "/api/v1/nodes", "", nil)
	if err != nil {
		return err
	}
	ready, err := readyNodes(body)
	if err == nil && ready < wanted {
		err = fmt.Errorf("%d of %d are ready", ready, wanted)
	}
	return err
}

// readyNodes counts those of a NodeList.
func readyNodes(body []byte) (int, error) {
	var list struct {
		Items []struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return 0, err
	}
	ready := 0
	for _, node := range list.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" {
				ready++
			}
		}
	}
	return ready, nil
}

// serviceAccount sees whether pods can be made: each needs its namespace's account.
func (a *api) serviceAccount() error {
	_, err := a.do(http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", "", nil)
	return err
}
