// examples/typescript/mailerd.ts in front of a real daemon, through a proxy that loses the first answer of each kind.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";
import { MailerdError, mailerd, verify } from "./typescript/mailerd";

const daemon = process.env.MAILERD_URL!;
const lost = new Set<string>();
const asked: string[] = [];
const proxy = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const { host: _, connection: __, ...headers } = request.headers;
  asked.push(`${request.method} ${request.url} ${headers["idempotency-key"]}`);
  const answer = await fetch(daemon + request.url, {
    method: request.method, headers: headers as Record<string, string>,
    ...(chunks.length ? { body: Buffer.concat(chunks) } : {}),
  });
  if (request.method === "POST" && !lost.has(request.url!)) {
    lost.add(request.url!);
    return request.socket.destroy();
  }
  response.writeHead(answer.status, { "Content-Type": answer.headers.get("Content-Type") ?? "" });
  let sent = 0; // of a stream that the proxy cuts after its first events, time and again
  for await (const chunk of answer.body!) {
    response.write(chunk);
    if (request.url!.startsWith("/api/events/stream") && ++sent === 3) return request.socket.destroy();
  }
  response.end();
});
await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
const { port } = proxy.address() as { port: number };

const client = mailerd(`http://127.0.0.1:${port}`, process.env.MAILERD_API_KEY!);
const template = { subject: "Hello", text: "Hello" };
const job = { sender_email: "me@example.com", template, recipients: [{ email: "typescript@example.org" }] };
const posted = await client.post(job, "typescript-17");
assert.equal(posted.accepted, 1);
assert.equal((await client.post(job, "typescript-17")).job_id, posted.job_id);
const sent = await client.send({ sender_email: "me@example.com", to: { email: "one@example.org" }, ...template });
assert.equal(sent.status, "queued");
const keys = asked.filter((it) => it.startsWith("POST /api/messages")).map((it) => it.split(" ")[2]);
assert.equal(keys.length, 2, "its answer was lost once");
assert.equal(keys[0], keys[1], "it was repeated with the same key");

const seen = new Map<string, number>();
for await (const event of client.events(0, ["job.finished"])) {
  seen.set(event.job_id!, event.id);
  if (seen.has(posted.job_id) && seen.has(sent.job_id)) break;
}
const message = await client.api.GET("/api/messages/{id}", { params: { path: { id: sent.job_id } } });
assert.equal(message.data?.recipient.status, "sent");

const refused = (status: number, code: string, field?: string) => (error: unknown) =>
  error instanceof MailerdError && error.status === status && error.code === code &&
  (field === undefined || error.details.some((it) => it.field === field));
await assert.rejects(client.post({ ...job, recipients: [{ email: "nobody" }] }),
  refused(422, "invalid_request", "recipients[0].email"));
await assert.rejects(client.post({ ...job, reference: "other" }, "typescript-17"), refused(409, "idempotency_conflict"));
await assert.rejects(client.events(10 ** 9).next(), refused(409, "unknown_position"));
const nobody = mailerd("http://127.0.0.1:9", "k", { patience: 0 });
await assert.rejects(nobody.post(job, "typescript-18"),
  (error) => refused(0, "no_answer")(error) && (error as MailerdError).idempotencyKey === "typescript-18");

const secret = `whsec_${Buffer.from("a secret of 24 bytes ...").toString("base64")}`;
const body = JSON.stringify({ type: "job.finished", timestamp: "2026-12-01T09:00:00Z", data: {} });
const now = new Date();
const signature = new Webhook(secret).sign("evt_1", now, body);
const headers = {
  "webhook-id": "evt_1", "webhook-timestamp": String(Math.floor(now.getTime() / 1000)), "webhook-signature": signature,
};
assert.equal(verify(body, headers, secret).type, "job.finished");
assert.throws(() => verify(body.replace("finished", "failed"), headers, secret));
proxy.close();
proxy.closeAllConnections();
console.log(posted.job_id, sent.job_id, [...seen.values()]);
process.exit(0);
