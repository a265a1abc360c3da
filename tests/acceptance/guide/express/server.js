// The guide's Node.js receiver, as a subscriber runs it: Express, its JSON parser, and the guide's code.

'use strict';

const express = require('express');

const WEBHOOK_SECRET = process.env.WEBHOOK_SECRET;
const app = express();

app.use((req, res, next) => {
  res.on('finish', () => {
    const seen = {
      delivery: req.headers['x-grillo-delivery'] ?? null,
      event: req.headers['x-grillo-event'] ?? null,
      ok: res.statusCode === 200,
    };
    process.stdout.write(JSON.stringify(seen) + '\n');
  });
  next();
});
app.use(express.json({ limit: '1mb' }));

// >>> the guide
const crypto = require('crypto');

function verifyWebhook(payload, signature, secret) {
  const expected = 'sha256=' + crypto
    .createHmac('sha256', secret)
    .update(payload)
    .digest('hex');

  return crypto.timingSafeEqual(
    Buffer.from(signature),
    Buffer.from(expected)
  );
}

// In your handler
app.post('/webhook', (req, res) => {
  const signature = req.headers['x-grillo-signature'];
  const payload = JSON.stringify(req.body);

  if (!verifyWebhook(payload, signature, WEBHOOK_SECRET)) {
    return res.status(401).send('Invalid signature');
  }

  // Process webhook
  res.status(200).send('OK');
});
// <<< the guide

const server = app.listen(0, '127.0.0.1', () => {
  process.stdout.write(JSON.stringify({ port: server.address().port }) + '\n');
});
