// Command probe is what the cluster's tests talk to: over HTTP it tells who it is, over HTTPS it
// is a validating webhook and an aggregated API.
//
//	probe [--https NAME]
//
// HTTP is on port 8080, HTTPS for that DNS name on port 8443, with a certificate that it makes and
// tells at /certificate.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

// group is the aggregated API's.
const group = "probe.ferrovirt.dev"

func main() {
	name := flag.String("https", "", "the DNS name that HTTPS is served for; none where it is empty")
	flag.Parse()

	http.HandleFunc("GET /", whoami)
	http.HandleFunc("POST /validate", validate)
	http.HandleFunc("GET /apis/"+group+"/v1", resources)
	http.HandleFunc("GET /apis/"+group+"/v1/greetings", greetings)
	if *name != "" {
		certificate, err := selfSigned(*name)
		if err != nil {
			log.Fatal(err)
		}
		http.HandleFunc("GET /certificate", func(w http.ResponseWriter, _ *http.Request) {
			_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
		})
		server := http.Server{Addr: ":8443", TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
		go func() { log.Fatal(server.ListenAndServeTLS("", "")) }()
	}
	log.Print("listening")
	log.Fatal(http.ListenAndServe(":8080", nil))
}

func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		DNSNames:     []string{name},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// whoami says which pod answered, and whom it saw ask.
func whoami(w http.ResponseWriter, r *http.Request) {
	pod, _ := os.Hostname()
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	fmt.Fprintf(w, "%s sees %s\n", pod, host)
}

// validate refuses objects that have the annotation `refuse`, with its value for a reason.
func validate(w http.ResponseWriter, r *http.Request) {
	var review struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Request    struct {
			UID    string
			Object struct {
				Metadata struct{ Annotations map[string]string }
			}
		} `json:"request"`
	}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reason, refused := review.Request.Object.Metadata.Annotations["refuse"]
	answer(w, map[string]any{
		"apiVersion": review.APIVersion, "kind": review.Kind,
		"response": map[string]any{
			"uid": review.Request.UID, "allowed": !refused, "status": map[string]string{"message": reason},
		},
	})
}

func resources(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{
		"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group + "/v1",
		"resources": []map[string]any{{
			"name": "greetings", "singularName": "greeting", "kind": "Greeting", "namespaced": false,
			"verbs": []string{"list"},
		}},
	})
}

// greetings tells who asks, as the aggregator's headers say.
func greetings(w http.ResponseWriter, r *http.Request) {
	answer(w, map[string]any{
		"kind": "GreetingList", "apiVersion": group + "/v1", "metadata": map[string]string{},
		"items": []map[string]any{{
			"kind": "Greeting", "apiVersion": group + "/v1", "metadata": map[string]string{"name": "hello"},
			"user": r.Header.Get("X-Remote-User"),
		}},
	})
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Print(err)
	}
}
