// Send an image to the service, print the objects, and write the drawing. Needs the standard library only.
//
//	go run client.go http://127.0.0.1:8080 photo.jpg drawing.jpg
//
// The API key, if the service has one, is read from the environment variable API_KEY.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

// Go reads and writes []byte as base64.
type request struct {
	Image     []byte `json:"image"`
	Visualize bool   `json:"visualize"`
}

type reply struct {
	ErrorCode int    `json:"errorCode"`
	ErrorMsg  string `json:"errorMsg"`
	Result    struct {
		Instances []struct {
			Box      [4]float64 `json:"bbox"`
			Category string     `json:"categoryName"`
			Score    float64    `json:"score"`
		} `json:"instances"`
		Image []byte `json:"image"`
	} `json:"result"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: client URL IMAGE DRAWING")
	}
	answer, err := segment(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	for _, one := range answer.Result.Instances {
		b := one.Box
		fmt.Printf("%s\t%.3f\t%.1f %.1f %.1f %.1f\n", one.Category, one.Score, b[0], b[1], b[2], b[3])
	}
	if err := os.WriteFile(os.Args[3], answer.Result.Image, 0o644); err != nil {
		log.Fatal(err)
	}
}

func segment(url, image string) (*reply, error) {
	data, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(request{Image: data, Visualize: true})
	if err != nil {
		return nil, err
	}
	message, err := http.NewRequest("POST", url+"/instance-segmentation", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	message.Header.Set("Content-Type", "application/json")
	if key := os.Getenv("API_KEY"); key != "" {
		message.Header.Set("X-API-Key", key)
	}
	client := http.Client{Timeout: time.Minute}
	response, err := client.Do(message)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer reply
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.ErrorCode != 0 {
		return nil, fmt.Errorf("%d: %s", answer.ErrorCode, answer.ErrorMsg)
	}
	return &answer, nil
}
