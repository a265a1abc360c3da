// A receiver in Go 1.21 or newer, without modules: SECRET=whsec_… PORT=9000 go run receiver.go
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const tolerance = 300 // seconds: older requests may have been recorded and sent again by somebody

var keys [][]byte // two while a secret rotates
var seen sync.Map // yours is a table: a delivery can come again, also after a restart

func key(secret string) []byte {
	if encoded, found := strings.CutPrefix(secret, "whsec_"); found {
		decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
		if err != nil {
			log.Fatal("SECRET: behind whsec_ base64 must follow: ", err)
		}
		return decoded
	}
	return []byte(secret)
}

// verified checks a request's raw bytes: signed by one of the secrets, and not long ago.
func verified(header http.Header, body []byte) bool {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if age := time.Now().Unix() - at; err != nil || age > tolerance || age < -tolerance {
		return false
	}
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, timestamp)
		mac.Write(body)
		expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		for _, given := range strings.Split(header.Get("webhook-signature"), " ") {
			if hmac.Equal([]byte(given), []byte(expected)) {
				return true
			}
		}
	}
	return false
}

func receive(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, 1<<20))
	if err != nil || request.Method != http.MethodPost || !verified(request.Header, body) {
		http.Error(response, "invalid signature", http.StatusUnauthorized)
		return
	}
	fmt.Fprintln(response, "OK") // sent when this function ends: whatever takes long belongs into the goroutine
	go work(request.Header.Get("webhook-id"), body)
}

func work(id string, body []byte) {
	if _, again := seen.LoadOrStore(id, true); again {
		return
	}
	var event struct {
		Type string          `json:"type"`
		Test bool            `json:"test"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		log.Print(err)
	} else if event.Test {
		fmt.Println("drill", event.Type, id)
	} else {
		fmt.Println("event", event.Type, id)
	}
}

func main() {
	for _, secret := range strings.Fields(os.Getenv("SECRET")) {
		keys = append(keys, key(secret))
	}
	if len(keys) == 0 || slices.ContainsFunc(keys, func(key []byte) bool { return len(key) == 0 }) {
		log.Fatal("SECRET holds no secret: anybody could sign with an empty key")
	}
	port := os.Getenv("PORT")
	if port == "" {
		port = "9000"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, http.HandlerFunc(receive)))
}
