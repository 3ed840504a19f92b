// The client of mailerd for programs in TypeScript (Node 20 or later). Copy this file, and make the types beside it:
// npm install && npm run types
import createClient from "openapi-fetch";
import { Webhook } from "standardwebhooks";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Event = Schemas["FeedEventOut"];
const STREAM = "text/event-stream";
type Failure = { error?: { code: string; message: string; details?: { field: string; message: string }[] } };

/** A call that was refused, or got no answer: `status` 0. With the same key, the same post may be made again. */
export class MailerdError extends Error {
  constructor(readonly status: number, readonly code: string, message: string,
    readonly details: { field: string; message: string }[] = [], readonly idempotencyKey = "") {
    super([`${status} ${code}: ${message}`, ...details.map((it) => `  ${it.field}: ${it.message}`)].join("\n"));
  }
}

/** What repeats a request, always the same one, within `patience` seconds: after no answer, a 429, 502, 503 or 504. */
const patiently = (patience: number) => async (request: Request): Promise<Response> => {
  const until = Date.now() + patience * 1000;
  for (let wait = 0.5; ; wait = Math.min(2 * wait, 10)) {
    let response: Response | undefined, cause: unknown;
    try {
      response = await fetch(request.clone());
      if (request.headers.get("Accept") !== STREAM) await response.clone().arrayBuffer(); // so that all of it is here
      const json = response.headers.get("Content-Type")?.startsWith("application/json");
      if (request.method === "DELETE" && response.status === 404 && json && wait > 0.5)
        return Response.json({ removed: true, archived: true }); // an earlier attempt, whose answer was lost, has done it
      if (![429, 502, 503, 504].includes(response.status)) return response;
    } catch (error) {
      [response, cause] = [undefined, error];
    }
    const rest = Math.max(Number(response?.headers.get("Retry-After")) || wait, 0.5);
    if (Date.now() + rest * 1000 > until || request.signal.aborted) {
      if (response) return response;
      const key = request.headers.get("Idempotency-Key") ?? "";
      throw new MailerdError(0, "no_answer", `${request.method} ${request.url}: ${cause}`, [], key);
    }
    await new Promise((resolve) => setTimeout(resolve, rest * 1000));
  }
};

/** All calls as `api.GET("/api/jobs/{id}", …)`, and posts, events and webhooks in one line. */
export function mailerd(url: string, key: string, { patience = 60 } = {}) {
  const headers = { "X-API-Key": key };
  const call = patiently(patience);
  const api = createClient<paths>({ baseUrl: url, headers, fetch: call, redirect: "manual" });
  const dataOf = <T>(it: { data?: T; error?: unknown; response: Response }, idempotencyKey = ""): T => {
    if (it.data !== undefined) return it.data;
    const failure = (it.error as Failure | undefined)?.error;
    const said = failure?.message ?? "the answer is not mailerd's";
    throw new MailerdError(it.response.status, failure?.code ?? "http", said, failure?.details, idempotencyKey);
  };
  return {
    api,
    /** Post a job. `once`: an ID of your own, such as an order's number; without it, this call alone is repeated. */
    async post(body: Schemas["JobIn"], once: string = crypto.randomUUID()) {
      const params = { header: { "Idempotency-Key": once } };
      return dataOf(await api.POST("/api/jobs/send_template_emails", { params, body }), once);
    },
    /** Post one message; `subject`, `html` and `text` are sent as they are. `once`: as above. */
    async send(body: Schemas["MessageIn"], once: string = crypto.randomUUID()) {
      return dataOf(await api.POST("/api/messages", { params: { header: { "Idempotency-Key": once } }, body }), once);
    },
    /** What happened behind the event `after`, and what happens, as it does. Keep the `id` of the last one. */
    async *events(after = 0, types: string[] = []): AsyncGenerator<Event> {
      const head = { ...headers, Accept: STREAM };
      for (;;) {
        const address = `${url}/api/events/stream?after=${after}&types=${types.join(",")}`;
        const response = await call(new Request(address, { headers: head, redirect: "manual" }));
        if (!response.ok) dataOf({ error: await response.json().catch(() => undefined), response });
        try {
          let rest = "";
          for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
            const lines = (rest + chunk).split("\n");
            rest = lines.pop()!;
            for (const line of lines.filter((it) => it.startsWith("data: "))) {
              const event: Event = JSON.parse(line.slice(6));
              yield event;
              after = event.id;
            }
          }
        } catch (error) {
          if (!(error instanceof TypeError)) throw error; // the connection broke, and is opened again
        }
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    },
  };
}

/** The event of a webhook, if it is signed with the secret (`whsec_…`); `body`: as it came. Else it throws. */
export function verify(body: string, headers: Record<string, string>, secret: string) {
  return new Webhook(secret).verify(body, headers) as { type: string; timestamp: string; data: Record<string, unknown> };
}
