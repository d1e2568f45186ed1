// The device verifier with everything in memory: as fast as it gets, if nothing ever changes.
//
// verifier PORT DEVICES_FILE; a line of the file is IDENTIFIER TAB DIGEST. PEPPER is in base64.
package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
)

type question struct {
	ID           uint32 `json:"id"`
	Method       string `json:"method"`
	DeviceID     string `json:"deviceid"`
	DeviceSecret string `json:"devicesecret"`
}

type answer struct {
	ID   uint32 `json:"id"`
	Code string `json:"code"`
}

func read(path string) (digests map[string][]byte) {
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	digests = make(map[string][]byte)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		identifier, text, _ := strings.Cut(lines.Text(), "\t")
		if digests[identifier], err = hex.DecodeString(text); err != nil {
			log.Fatal(err)
		}
	}
	return digests
}

func main() {
	pepper, err := base64.URLEncoding.DecodeString(os.Getenv("PEPPER"))
	if err != nil {
		log.Fatal(err)
	}
	digests := read(os.Args[2])
	http.HandleFunc("POST /deviceverifier", func(writer http.ResponseWriter, request *http.Request) {
		asked, code := question{}, "OK"
		stored, known := []byte(nil), false
		if json.NewDecoder(http.MaxBytesReader(writer, request.Body, 65536)).Decode(&asked) != nil {
			code = "BAD_REQUEST"
		} else if asked.Method != "verify" {
			code = "METHOD_NOT_ALLOWED"
		} else if stored, known = digests[asked.DeviceID]; !known {
			code = "NOT_FOUND"
		} else {
			made := hmac.New(sha256.New, pepper)
			made.Write([]byte("authsite pre-shared key v1\x00" + asked.DeviceSecret))
			if !hmac.Equal(made.Sum(nil), stored) {
				code = "VERIFICATION_FAILED"
			}
		}
		writer.Header().Set("Content-Type", "application/json")
		json.NewEncoder(writer).Encode(answer{asked.ID, code})
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
