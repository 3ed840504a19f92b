// Sends a message about an order, once, and waits for it: MAILERD_URL=… MAILERD_API_KEY=… npx tsx order.ts
import { mailerd } from "./mailerd";

const client = mailerd(process.env.MAILERD_URL!, process.env.MAILERD_API_KEY!);
const message = { sender_email: "me@example.com", to: { email: "ada@example.com" }, subject: "Order 17", text: "Parcel 4711" };
const { job_id } = await client.send(message, "order-17-parcel");
for await (const event of client.events(0, ["job.finished"])) {
  if (event.job_id === job_id) break;
}
