<?php
// Send an image to the service, print the objects, and write the drawing. Needs the extension curl.
//
//   php client.php http://127.0.0.1:8080 photo.jpg drawing.jpg
//
// The API key, if the service has one, is read from the environment variable API_KEY.
[, $url, $image, $drawing] = $argv;

$headers = ["Content-Type: application/json"];
if (getenv("API_KEY") !== false) {
    $headers[] = "X-API-Key: " . getenv("API_KEY");
}
$request = curl_init("$url/instance-segmentation");
curl_setopt_array($request, [
    CURLOPT_POST => true,
    CURLOPT_HTTPHEADER => $headers,
    CURLOPT_POSTFIELDS => json_encode(["image" => base64_encode(file_get_contents($image)), "visualize" => true]),
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_TIMEOUT => 60,
]);
$body = curl_exec($request);
if ($body === false) {
    fwrite(STDERR, "$url: " . curl_error($request) . "\n");
    exit(1);
}

$reply = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
if ($reply["errorCode"] !== 0) {
    fwrite(STDERR, "{$reply['errorCode']}: {$reply['errorMsg']}\n");
    exit(1);
}
foreach ($reply["result"]["instances"] as $one) {
    printf("%s\t%.3f\t%.1f %.1f %.1f %.1f\n", $one["categoryName"], $one["score"], ...$one["bbox"]);
}
file_put_contents($drawing, base64_decode($reply["result"]["image"]));
