// The smallest job, posted by openapi-fetch with the types of openapi-typescript.
import createClient from "openapi-fetch";
import type { paths } from "./schema";

const api = createClient<paths>({
  baseUrl: process.env.MAILERD_URL,
  headers: { "X-API-Key": process.env.MAILERD_API_KEY },
});
const { data, error } = await api.POST("/api/jobs/send_template_emails", {
  body: {
    sender_email: "me@example.com",
    template: { subject: "Hello", text: "Hello" },
    recipients: [{ email: "fetch@example.org" }],
  },
});
if (error) throw new Error(`${error.error.code}: ${error.error.message}`);
const done: string | null | undefined = data.forecast.done_at;
const job = await api.GET("/api/jobs/{id}", { params: { path: { id: data.job_id } } });
const perMinute: number | null | undefined = job.data?.per_minute;
const tested = await api.POST("/api/jobs/send_template_emails/test", {
  body: {
    job: {
      sender_email: "me@example.com",
      template: { subject: "Hello {{ name }}", text: "Hello" },
      recipients: [{ email: "fetch@example.org", name: "Fetch" }],
    },
    to: ["me@example.com"],
  },
});
if (tested.error) throw new Error(`${tested.error.error.code}: ${tested.error.error.message}`);
const mine = await api.GET("/api/recipients", { params: { query: { email: "me@example.com" } } });
const id = mine.data?.recipients[0]?.id ?? 0;
const read = await api.GET("/api/recipients/{id}/message", { params: { path: { id } } });
if (read.data?.subject !== "[Test] Hello Fetch") throw new Error(`the test reads ${read.data?.subject}`);
const page = await api.GET("/api/events", { params: { query: { after: "0" } } });
const told: string[] | undefined = page.data?.events.map((it) => `${it.id} ${it.type}`);
console.log(data.job_id, job.data?.total, done, perMinute, told);
