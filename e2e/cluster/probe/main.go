// Command probe is what the cluster's tests talk to: over HTTP it tells who it is, over HTTPS it
// is a validating webhook and an aggregated API.
//
//	probe --http :8080 [--https :8443 --cert FILE --key FILE]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

// group is the aggregated API's.
const group = "probe.ferrovirt.dev"

func main() {
	plain := flag.String("http", ":8080", "address for HTTP")
	secure := flag.String("https", "", "address for HTTPS; none where it is empty")
	cert := flag.String("cert", "", "certificate")
	key := flag.String("key", "", "its key")
	flag.Parse()

	http.HandleFunc("GET /", whoami)
	http.HandleFunc("POST /validate", validate)
	http.HandleFunc("GET /apis/"+group+"/v1", resources)
	http.HandleFunc("GET /apis/"+group+"/v1/greetings", greetings)
	if *secure != "" {
		go func() { log.Fatal(http.ListenAndServeTLS(*secure, *cert, *key, nil)) }()
	}
	log.Printf("listening on %s %s", *plain, *secure)
	log.Fatal(http.ListenAndServe(*plain, nil))
}

// whoami says which pod answered, and whom it saw ask.
func whoami(w http.ResponseWriter, r *http.Request) {
	name, _ := os.Hostname()
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	fmt.Fprintf(w, "%s sees %s\n", name, host)
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
