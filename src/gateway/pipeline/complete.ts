/**
 * Answers that are sent as a whole.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import type { ChatRequest } from "../../ChatRequest.js"
import { SchemaMismatch } from "../../Errors.js"
import type { Result } from "../../Failover.js"
import { addUsage } from "../../failover/usage.js"
import * as Message from "../../Message.js"
import type { Candidate } from "../../ModelSelection.js"
import { tokensOf } from "../../modelSelection/needs.js"
import * as StructuredOutput from "../../StructuredOutput.js"
import type { Answered, Codec } from "./codec.js"
import { gather } from "./completion.js"
import { choices } from "./gatewayRequest.js"
import { mustFit, only } from "./jsonReply.js"
import { shown } from "./modelSelection.js"
import type { Errand } from "./requestExecution.js"
import * as Warnings from "./warnings.js"

interface Chosen {
  readonly candidate: Candidate
  readonly result: Answered
}

const inSession = async (errand: Errand, candidate: Candidate, request: ChatRequest): Promise<Chosen> => {
  const { chat } = errand.house.library
  const result = await errand.run(chat.complete({ messages: request.messages }, errand.options(request)))
  return { candidate, result }
}

const once = async (
  errand: Errand,
  candidate: Candidate,
  request: ChatRequest,
  accepts?: (result: Result) => boolean
): Promise<Chosen> => {
  // Only its events tell how likely each token was.
  const likely = request.logprobs !== undefined
  const opening = errand.open(candidate, request, likely, accepts)
  const answer = opening instanceof Promise ? await opening : opening
  const result = await (likely ? gather(answer) : answer.result())
  return errand.ask.oneTool && result.toolCalls.length > 1
    ? { candidate, result: { ...result, toolCalls: result.toolCalls.slice(0, 1) } }
    : { candidate, result }
}

/** About how many tokens a model has written, by the length of the text. */
const written = ({ text, thinking, toolCalls }: Result): number =>
  tokensOf(text.length + thinking.length + (toolCalls.length === 0 ? 0 : JSON.stringify(toolCalls).length))

/** JSON that does not fit is written once more. */
const fitting = async (
  errand: Errand,
  decoder: StructuredOutput.Decoder<unknown>,
  choice: number,
  candidate: Candidate,
  request: ChatRequest
): Promise<Chosen> => {
  // Each reply is asked about twice.
  let last: readonly [text: string, ReturnType<typeof decoder.decode>] | undefined
  const decode = (text: string) => {
    if (last?.[0] !== text) last = [text, decoder.decode(text)]
    return last[1]
  }
  const accepts = (result: Result) => Either.isRight(decode(result.text))
  const first = await once(errand, candidate, request, accepts)
  const { result } = first
  if (!mustFit(result)) return first
  const decoded = decode(result.text)
  if (Either.isRight(decoded)) return { candidate, result: { ...result, text: only(result.text) } }
  if (!StructuredOutput.canRepair(decoded.left)) {
    errand.counted(choice, errand.usage(choice, result.usage, written(result)))
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
  const { result: second } = await once(errand, candidate, repair, accepts)
  // Both were written for this request.
  const used = (result: Result) => errand.usage(choice, result.usage, written(result))
  const usage = addUsage(used(result), used(second))
  const again = decode(second.text)
  if (Either.isRight(again) || !mustFit(second)) {
    return { candidate, result: { ...second, text: only(second.text), usage } }
  }
  errand.counted(choice, usage)
  throw new SchemaMismatch({ model: candidate.model, issues: again.left, text: second.text })
}

const choose = (errand: Errand, choice: number): Promise<Chosen> =>
  errand.course(choice, (candidate, request) => {
    if (errand.ask.session !== undefined) return inSession(errand, candidate, request)
    const { decoder } = errand
    return decoder === undefined
      ? once(errand, candidate, request)
      : fitting(errand, decoder, choice, candidate, request)
  })

/**
 * Asks for all the answers, and sends them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const answer = async (errand: Errand, codec: Codec): Promise<void> => {
  const { ask, exchange, house } = errand
  const length = choices(ask)
  const all =
    length === 1
      ? [await choose(errand, 0)]
      : await Promise.all(Array.from({ length }, (_, choice) => choose(errand, choice)))
  const [first] = all
  if (exchange.left || first === undefined) return
  const started = performance.now()
  const { candidate, result } = first
  const { attempts, cached, model, server } = result
  errand.receipt(server, attempts.length + 1, cached, attempts.at(-1)?.reason)
  exchange.account.model = model
  const { firstTokenTime, warnings } = result
  Warnings.tell(exchange, warnings)
  if (firstTokenTime !== undefined) {
    const before = cached || errand.opened === undefined ? 0 : errand.opened - exchange.began
    exchange.account.firstToken = before + firstTokenTime
  }
  // A server may say only once how long the prompt is.
  if (ask.n > 1) all.forEach(({ result }, choice) => errand.usage(choice, result.usage, 0))
  const answers = all.map(({ result }, choice) => {
    const usage = errand.usage(choice, result.usage, written(result))
    errand.counted(choice, usage)
    return usage === result.usage ? result : { ...result, usage }
  })
  const body = codec.whole(shown(house, candidate, model, server), answers)
  if (codec.settle !== undefined) await codec.settle()
  exchange.json(body)
  exchange.own += performance.now() - started
}
