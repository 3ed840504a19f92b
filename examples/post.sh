#!/bin/sh
# A job from a shell script, posted once: the order's number is its idempotency key, so running this again sends nothing.
# Usage: MAILERD_URL=http://127.0.0.1:5000 MAILERD_API_KEY=sk_live_… examples/post.sh 17 ada@example.com
set -eu
curl -sS --fail-with-body --retry 5 --retry-connrefused \
  -H @- -H "Content-Type: application/json" -H "Idempotency-Key: shipped-$1" \
  --data-binary "{\"sender_email\": \"me@example.com\", \"reference\": \"order $1\",
    \"template\": {\"subject\": \"Your order $1\", \"text\": \"Thank you. It is on its way.\"},
    \"recipients\": [{\"email\": \"$2\"}]}" \
  "$MAILERD_URL/api/jobs/send_template_emails" <<KEY
X-API-Key: $MAILERD_API_KEY
KEY
