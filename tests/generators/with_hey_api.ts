// The smallest job, posted by the client that @hey-api/openapi-ts makes.
import { client } from "./hey/client.gen";
import { createJob, getJob, listEvents } from "./hey/sdk.gen";

client.setConfig({ baseUrl: process.env.MAILERD_URL as `${string}://${string}`, auth: process.env.MAILERD_API_KEY });
const { data, error } = await createJob({
  body: {
    sender_email: "me@example.com",
    template: { subject: "Hello", text: "Hello" },
    recipients: [{ email: "hey@example.org" }],
  },
});
if (!data) throw new Error(`${error.error.code}: ${error.error.message}`);
const done: string | null | undefined = data.forecast.done_at;
const job = await getJob({ path: { id: data.job_id } });
const page = await listEvents({ query: { after: "0" } });
const told: string[] | undefined = page.data?.events.map((it) => `${it.id} ${it.type}`);
console.log(data.job_id, job.data?.total, done, told);
