import type { Answer } from "../chat"
import * as Format from "../format"
import { Markdown } from "./markdown"
import { Badge, Code, Copy } from "./small"

/** An answer of a model, as far as it is there. */
export const AnswerView = ({ answer }: { readonly answer: Answer }) => {
  const facts = [
    answer.server,
    answer.attempts > 1 ? `${answer.attempts} attempts` : "",
    answer.firstToken === undefined ? "" : `first token ${Format.milliseconds(answer.firstToken)}`,
    answer.tokens === undefined ? "" : `${answer.tokens} tokens`,
    answer.tokens !== undefined && answer.firstToken !== undefined && answer.took - answer.firstToken > 50
      ? Format.speed((answer.tokens / (answer.took - answer.firstToken)) * 1_000)
      : "",
    answer.finish === "length" ? "cut off at the token limit" : ""
  ].filter((fact) => fact !== "")
  return (
    <div class="answer">
      <div class="who">
        <b>
          <bdi>{Format.harmless(answer.model || "assistant")}</bdi>
        </b>
        {answer.state === "waiting" ? (
          <Badge tone="info">waiting</Badge>
        ) : answer.state === "stopped" ? (
          <Badge tone="warn">stopped</Badge>
        ) : null}
      </div>
      {answer.thinking === "" ? null : (
        <details class="thinking" open={answer.text === "" && answer.state === "streaming"}>
          <summary>Thinking</summary>
          <Markdown text={answer.thinking} />
        </details>
      )}
      <div aria-busy={answer.state === "streaming"}>{answer.text === "" ? null : <Markdown text={answer.text} />}</div>
      {answer.calls.map(({ input, name }, i) => (
        <Code key={i} label={`Tool call: ${Format.harmless(name)}`} text={Format.harmless(input)} />
      ))}
      {answer.state === "failed" ? (
        <p role="alert" class="error">
          {Format.harmless(answer.error)}
        </p>
      ) : null}
      {answer.unstored ? (
        <p role="status" class="trouble">
          The gateway could not store this answer: its disk is full or cannot be written, or its store does not answer.
          The stored conversation is as it was before. What is said here stays on this page, and goes along with the
          next question.
        </p>
      ) : null}
      {facts.length === 0 ? null : (
        <div class="facts-line dim" title={answer.reason}>
          {facts.join(" · ")}
          <span class="push" />
          {answer.text === "" ? null : <Copy text={answer.text} />}
        </div>
      )}
    </div>
  )
}
