#!/bin/sh
# Send an image to the service with curl, print the objects, and write the drawing.
#
#   sh client.sh http://127.0.0.1:8080 photo.jpg drawing.jpg [json]
#
# Without "json" the body is the file itself: nothing is encoded, and the request is a quarter smaller. With it, the
# body is JSON, as in the tutorials. The API key, if the service has one, is read from the environment variable
# API_KEY.
# A script that reads more of the reply should use jq.
set -eu

url=$1/instance-segmentation image=$2 drawing=$3 form=${4:-raw}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The key goes into a file: what stands in a command can be read by others on this machine.
printf '%s' "${API_KEY:+X-API-Key: $API_KEY}" >"$work/header"
# Waits and tries again at 429 and 503, as Retry-After says.
send() {
    curl --silent --show-error --max-time 60 --retry 4 --header "@$work/header" --output "$work/reply" "$@"
}

if [ "$form" = json ]; then
    { printf '{"visualize": true, "image": "'; base64 <"$image" | tr -d '\n'; printf '"}'; } >"$work/request"
    send --header 'Content-Type: application/json' --data-binary "@$work/request" "$url"
else
    send --header 'Content-Type: application/octet-stream' --data-binary "@$image" "$url?visualize=true"
fi

if ! grep -q '"errorCode": *0[,}]' "$work/reply"; then
    cat "$work/reply" >&2
    echo >&2
    exit 1
fi
# One line for each object: class, score, box.
grep -o '"bbox": *\[[^]]*\], *"categoryId": *[0-9]*, *"categoryName": *"[^"]*", *"score": *[0-9.e-]*' "$work/reply" |
    sed 's/"bbox": *\[\([^]]*\)\].*"categoryName": *"\([^"]*\)", *"score": *\(.*\)/\2\t\3\t\1/' || true
# The drawing is the only value "image" that is a text.
sed -n 's/.*"image": *"\([^"]*\)".*/\1/p' "$work/reply" | base64 -d >"$drawing"
