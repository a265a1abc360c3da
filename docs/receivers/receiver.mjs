// A receiver in Node.js 18 or newer, without packages: SECRET=whsec_… PORT=9000 node receiver.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const KEYS = (process.env.SECRET ?? "").split(" ").filter(Boolean).map(key); // two while a secret rotates
const TOLERANCE_S = 300; // older requests may have been recorded and sent again by somebody
if (KEYS.length === 0 || KEYS.some((one) => one.length === 0)) {
  throw new Error("SECRET holds no secret: anybody could sign with an empty key");
}
const seen = new Set(); // yours is a table: a delivery can come again, also after a restart

function key(secret) {
  return secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret, "utf8");
}

/** Check a request's raw bytes: signed by one of the secrets, and not long ago. */
function verified(headers, body) {
  const id = headers["webhook-id"];
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!id || !/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) {
    return false;
  }
  const given = (headers["webhook-signature"] ?? "").split(" ").map((one) => Buffer.from(one));
  return KEYS.some((one) => {
    const hmac = createHmac("sha256", one).update(`${id}.${timestamp}.`).update(body);
    const expected = Buffer.from(`v1,${hmac.digest("base64")}`);
    return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
  });
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks); // the bytes as they came: never JSON.stringify of what was parsed
    if (request.method !== "POST" || !verified(request.headers, body)) {
      response.writeHead(401).end("invalid signature\n");
      return;
    }
    response.writeHead(200).end("OK\n"); // at once; then work
    const id = request.headers["webhook-id"];
    if (seen.has(id)) return;
    seen.add(id);
    const event = JSON.parse(body.toString("utf8"));
    if (event.test) console.log(`drill ${event.type} ${id}`);
    else console.log(`event ${event.type} ${id}`);
  });
});
server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
  console.log(`listening on ${server.address().port}`);
});
