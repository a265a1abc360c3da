// Answers, one JSON line for each JSON line it reads, what JavaScript itself makes of a body.
//
// in:  {"source": <the producer's text of `data`>, "body": <our bytes, in base64>}
// out: {"stringified": <JSON.stringify(JSON.parse(body)) as bytes, in base64>,
//       "data": <JSON.stringify(JSON.parse(source))>, "delivered": <the same of the body's data>}

import { createInterface } from 'node:readline';

for await (const line of createInterface({ input: process.stdin })) {
  const { source, body } = JSON.parse(line);
  const parsed = JSON.parse(Buffer.from(body, 'base64').toString('utf8'));
  const answer = {
    stringified: Buffer.from(JSON.stringify(parsed)).toString('base64'),
    data: JSON.stringify(JSON.parse(source)),
    delivered: JSON.stringify(parsed.data),
  };
  process.stdout.write(JSON.stringify(answer) + '\n');
}
