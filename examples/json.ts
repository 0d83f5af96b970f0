/** Typed values: with a JSON Schema from the Promise face, with an Effect schema from Effect. */
import { Chat, Cortex } from "aicortex"
import { createCortex } from "aicortex/promise"
import { Effect, Schema } from "effect"

const options = { model: "aicortex-demo", temperature: 0 } as const
const question = "Alice is 30 years old. Return the name and age as JSON."

await using cortex = createCortex()
const schema = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 } },
  required: ["name", "age"]
}
const person = await cortex.chat<{ name: string; age: number }>(question, { ...options, schema })
console.log(person) // => { name: 'Alice', age: 30 }

const Person = Schema.Struct({ name: Schema.NonEmptyString, age: Schema.NonNegativeInt })
const program = Chat.json(question, Person, options).pipe(
  Effect.map(({ age, name }) => `${name} is ${age}`),
  Effect.catchTag("SchemaMismatch", ({ issues }) => Effect.succeed(`no person: ${issues.length} issues`))
)
console.log(await Effect.runPromise(Effect.provide(program, Cortex.layer()))) // => Alice is 30
