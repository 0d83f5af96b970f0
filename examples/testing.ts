/** A program, and its test: a script answers instead of servers. */
import { deepStrictEqual, match } from "node:assert"
import { Chat, Overloaded } from "aicortex"
import { Effect, Schema } from "effect"

// The program.
const Ticket = Schema.Struct({ urgent: Schema.Boolean, topic: Schema.String })

const triage = (message: string) =>
  Chat.json(`Sort this ticket: ${message}`, Ticket).pipe(
    Effect.catchTag("Overloaded", () => Effect.succeed({ urgent: true, topic: "unknown" }))
  )

// Its test. The second answer is no JSON at first, and is sent back to be repaired.
const questions: Array<string> = []
const replies = [
  '{"urgent":false,"topic":"billing"}',
  "Surely! It is urgent.",
  '{"urgent":true,"topic":"outage"}',
  new Overloaded({ model: "m", queued: 512, retryAfter: 1_000 })
]
const script: Chat.Script = ({ messages }, index) => {
  questions.push(JSON.stringify(messages))
  return replies[index] ?? "nothing more was expected"
}

const test = Effect.all([triage("The invoice is wrong."), triage("It is down!"), triage("Hello?")])
const tickets = await Effect.runPromise(Effect.provide(test, Chat.layerTest(script)))
deepStrictEqual(tickets, [
  { urgent: false, topic: "billing" },
  { urgent: true, topic: "outage" },
  { urgent: true, topic: "unknown" }
])
match(questions[2] ?? "", /Surely! It is urgent/)
console.log("passed") // => passed
