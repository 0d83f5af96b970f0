/** Faithful fakes of language-model servers on loopback, with scripted replies, delays and faults. */
export { type FakeAnthropicOptions, startFakeAnthropic } from "./fakeAnthropic.js"
export { type FakeOllamaOptions, startFakeOllama } from "./fakeOllama.js"
export { type FakeOpenAIOptions, type Flavour, startFakeOpenAI } from "./fakeOpenAI.js"
export type { Fault, FaultOn, FaultPlan, Phase, Strike } from "./faults.js"
export type { EndpointKind, FakeOptions, FakeServer, RecordedRequest } from "./harness.js"
export type { FakeModel } from "./models.js"
export { unusedPort } from "./ports.js"
export { type Continuation, embedding, type Json, type Reply, type ScriptedReply, tokenize } from "./script.js"
