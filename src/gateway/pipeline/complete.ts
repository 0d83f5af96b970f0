/** Complete (non-streamed) answers. */
import * as Either from "effect/Either"
import type { ChatRequest } from "../../ChatRequest.js"
import { SchemaMismatch } from "../../Errors.js"
import type { Result } from "../../Failover.js"
import { addUsage } from "../../failover/usage.js"
import * as Message from "../../Message.js"
import type { ModelCandidate } from "../../ModelSelection.js"
import { tokensOf } from "../../modelSelection/needs.js"
import * as StructuredOutput from "../../StructuredOutput.js"
import type { Codec, CompletedAnswer } from "./codec.js"
import { collectCompletion } from "./completion.js"
import { choices } from "./gatewayRequest.js"
import { jsonOnly, mustMatchFormat } from "./jsonReply.js"
import { shown } from "./modelSelection.js"
import type { RequestExecution } from "./requestExecution.js"
import * as Warnings from "./warnings.js"

interface Completed {
  readonly candidate: ModelCandidate
  readonly result: CompletedAnswer
}

const inSession = async (
  execution: RequestExecution,
  candidate: ModelCandidate,
  request: ChatRequest
): Promise<Completed> => {
  const { chat } = execution.gateway.library
  const result = await execution.run(chat.complete({ messages: request.messages }, execution.options(request)))
  return { candidate, result }
}

const ask = async (
  execution: RequestExecution,
  candidate: ModelCandidate,
  request: ChatRequest,
  accepts?: (result: Result) => boolean
): Promise<Completed> => {
  // Log probabilities are only in the events.
  const withLogprobs = request.logprobs !== undefined
  const opening = execution.open(candidate, request, withLogprobs, accepts)
  const answer = opening instanceof Promise ? await opening : opening
  const result = await (withLogprobs ? collectCompletion(answer) : answer.result())
  return execution.gatewayRequest.oneTool && result.toolCalls.length > 1
    ? { candidate, result: { ...result, toolCalls: result.toolCalls.slice(0, 1) } }
    : { candidate, result }
}

/** Estimates the tokens that a model has written from the length of the text. */
const estimatedTokens = ({ text, thinking, toolCalls }: Result): number =>
  tokensOf(text.length + thinking.length + (toolCalls.length === 0 ? 0 : JSON.stringify(toolCalls).length))

/** Invalid JSON is repaired once by asking again. */
const withRepair = async (
  execution: RequestExecution,
  decoder: StructuredOutput.Decoder<unknown>,
  choice: number,
  candidate: ModelCandidate,
  request: ChatRequest
): Promise<Completed> => {
  // Each reply is decoded twice otherwise.
  let last: readonly [text: string, ReturnType<typeof decoder.decode>] | undefined
  const decode = (text: string) => {
    if (last?.[0] !== text) last = [text, decoder.decode(text)]
    return last[1]
  }
  const accepts = (result: Result) => Either.isRight(decode(result.text))
  const first = await ask(execution, candidate, request, accepts)
  const { result } = first
  if (!mustMatchFormat(result)) return first
  const decoded = decode(result.text)
  if (Either.isRight(decoded)) return { candidate, result: { ...result, text: jsonOnly(result.text) } }
  if (!StructuredOutput.canRepair(decoded.left)) {
    execution.countUsage(choice, execution.usage(choice, result.usage, estimatedTokens(result)))
    throw new SchemaMismatch({ model: candidate.model, issues: decoded.left, text: result.text })
  }
  const repair = {
    ...request,
    choice: undefined,
    messages: [
      ...request.messages,
      Message.assistant(result.text),
      Message.user(StructuredOutput.repairPrompt(decoded.left))
    ]
  }
  const { result: second } = await ask(execution, candidate, repair, accepts)
  // Both attempts were made for this request.
  const usageOf = (result: Result) => execution.usage(choice, result.usage, estimatedTokens(result))
  const usage = addUsage(usageOf(result), usageOf(second))
  const decodedAgain = decode(second.text)
  if (Either.isRight(decodedAgain) || !mustMatchFormat(second)) {
    return { candidate, result: { ...second, text: jsonOnly(second.text), usage } }
  }
  execution.countUsage(choice, usage)
  throw new SchemaMismatch({ model: candidate.model, issues: decodedAgain.left, text: second.text })
}

const completeChoice = (execution: RequestExecution, choice: number): Promise<Completed> =>
  execution.withFallback(choice, (candidate, request) => {
    if (execution.gatewayRequest.session !== undefined) return inSession(execution, candidate, request)
    const { decoder } = execution
    return decoder === undefined
      ? ask(execution, candidate, request)
      : withRepair(execution, decoder, choice, candidate, request)
  })

/** Gets all answers, and sends them. */
export const sendComplete = async (execution: RequestExecution, codec: Codec): Promise<void> => {
  const { gatewayRequest, context, gateway } = execution
  const length = choices(gatewayRequest)
  const all =
    length === 1
      ? [await completeChoice(execution, 0)]
      : await Promise.all(Array.from({ length }, (_, choice) => completeChoice(execution, choice)))
  const [first] = all
  if (context.disconnected || first === undefined) return
  const started = performance.now()
  const { candidate, result } = first
  const { attempts, cached, model, server } = result
  execution.reportServer(server, attempts.length + 1, cached, attempts.at(-1)?.reason)
  context.record.model = model
  const { firstTokenTime, warnings } = result
  Warnings.tell(context, warnings)
  if (firstTokenTime !== undefined) {
    const before = cached || execution.openedAt === undefined ? 0 : execution.openedAt - context.began
    context.record.firstToken = before + firstTokenTime
  }
  // A server may say only once how long the prompt is.
  if (gatewayRequest.n > 1) all.forEach(({ result }, choice) => execution.usage(choice, result.usage, 0))
  const answers = all.map(({ result }, choice) => {
    const usage = execution.usage(choice, result.usage, estimatedTokens(result))
    execution.countUsage(choice, usage)
    return usage === result.usage ? result : { ...result, usage }
  })
  const body = codec.whole(shown(gateway, candidate, model, server), answers)
  if (codec.settle !== undefined) await codec.settle()
  context.json(body)
  context.ownTime += performance.now() - started
}
