// Go's net/http with its usual client.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

var host, token = os.Args[1], os.Args[2]

func ask(name, method, path string, body io.Reader, headers map[string]string, show string) map[string]any {
	request, err := http.NewRequest(method, "http://"+host+path, body)
	if err != nil {
		panic(err)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(err)
	}
	var document map[string]any
	_ = json.Unmarshal(text, &document)
	shown := ""
	if show == "length" {
		shown = fmt.Sprint(len(text))
	} else if show != "" {
		shown = fmt.Sprint(document[show])
	}
	fmt.Println(name, answer.StatusCode, shown)
	return document
}

// A reader of unknown length.
type stream struct{ io.Reader }

func main() {
	sale := ask("sale", "GET", "/api/v1/sales/launch", nil, nil, "state")
	ask("head", "HEAD", "/api/v1/sales/launch", nil, nil, "length")
	ask("nothing", "GET", "/nothing", nil, nil, "")
	bearer := map[string]string{"Authorization": "Bearer " + token}
	passed := ask("pass", "POST", "/api/v1/sales/launch/passes", nil, bearer, "")
	headers := map[string]string{
		"Floodgate-Pass":  passed["pass"].(string),
		"Idempotency-Key": "go",
		"Content-Type":    "application/json",
	}
	url, basket := sale["attempts_url"].(string), `{"lines":[{"item":"phone","quantity":1}]}`
	ask("buy", "POST", url, strings.NewReader(basket), headers, "outcome")
	ask("again", "POST", url, strings.NewReader(basket), headers, "outcome")
	headers["Expect"] = "100-continue"
	ask("expect", "POST", url, strings.NewReader(basket), headers, "outcome")
	delete(headers, "Expect")
	ask("chunked", "POST", url, stream{strings.NewReader(basket)}, headers, "outcome")
	ask("after", "GET", "/api/v1/sales/launch", nil, nil, "")
}
