/** Markdown as elements: nothing of it is ever HTML. */
import type { ComponentChildren } from "preact"
import { harmless } from "../format"
import { Copy } from "./small"

/** A longer text is shown as it is, in characters. */
const maxLength = 200_000
const maxDepth = 6

/** Only addresses that open a page. */
const safeLink = (address: string): string | undefined =>
  /^https?:\/\/[^\s<>"]+$/i.test(address) ? address : undefined

const inlinePattern =
  /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*([^\s*](?:[^*]|\*(?!\*))*?)\*\*|(?<![\w*])\*([^\s*][^*\n]*?)\*(?![\w*])|(?<!\w)_([^\s_][^_\n]*?)_(?!\w)|~~([^~\n]+)~~|\[([^\]\n]{1,500})\]\(([^()\s]{1,2000})\)|(https?:\/\/[^\s<>"')\]]{1,2000})/

const inline = (text: string, depth = 0): ComponentChildren => {
  const parts: Array<ComponentChildren> = []
  let rest = text
  while (rest !== "") {
    // A line of a megabyte is not looked through for marks.
    const found = depth < maxDepth && rest.length < 20_000 ? inlinePattern.exec(rest) : null
    if (found === null) {
      parts.push(rest)
      break
    }
    const [whole, , code, bold, italic, italic2, struck, label, target, bare] = found
    if (found.index > 0) parts.push(rest.slice(0, found.index))
    if (code !== undefined) parts.push(<code>{code}</code>)
    else if (bold !== undefined) parts.push(<strong>{inline(bold, depth + 1)}</strong>)
    else if (italic !== undefined || italic2 !== undefined)
      parts.push(<em>{inline(italic ?? italic2 ?? "", depth + 1)}</em>)
    else if (struck !== undefined) parts.push(<del>{inline(struck, depth + 1)}</del>)
    else {
      const href = safeLink(target ?? bare ?? "")
      parts.push(
        href === undefined ? (
          whole
        ) : (
          <a href={href} target="_blank" rel="noopener noreferrer nofollow">
            {label ?? bare}
          </a>
        )
      )
    }
    rest = rest.slice(found.index + whole.length)
  }
  return parts
}

const fence = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/
const heading = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/
const bullet = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/
const rule = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/
const divider = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$/

const cells = (line: string): ReadonlyArray<string> =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim())

const blocks = (lines: ReadonlyArray<string>, depth: number): Array<ComponentChildren> => {
  const out: Array<ComponentChildren> = []
  let i = 0
  const at = (n: number): string => lines[n] ?? ""
  while (i < lines.length) {
    const line = at(i)
    const opened = fence.exec(line)
    if (line.trim() === "") i++
    else if (opened !== null) {
      const mark = opened[1] ?? "```"
      const code: Array<string> = []
      i++
      while (
        i < lines.length &&
        !(
          at(i).trim().startsWith(mark) &&
          at(i)
            .trim()
            .replaceAll(mark[0] ?? "`", "") === ""
        )
      )
        code.push(at(i++))
      i++
      const text = code.join("\n")
      out.push(
        <figure class="code" key={i}>
          <figcaption>
            <span>{opened[2] || "code"}</span>
            <Copy text={text} />
          </figcaption>
          <pre tabIndex={0}>
            <code>{text}</code>
          </pre>
        </figure>
      )
    } else if (heading.test(line)) {
      const [, marks = "#", text = ""] = heading.exec(line) ?? []
      // A stranger's text is no part of the outline of the page.
      out.push(
        <p key={i} class={`heading l${marks.length}`}>
          {inline(text)}
        </p>
      )
      i++
    } else if (rule.test(line)) {
      out.push(<hr key={i} />)
      i++
    } else if (/^ {0,3}>/.test(line) && depth < maxDepth) {
      const quoted: Array<string> = []
      while (i < lines.length && /^ {0,3}>/.test(at(i))) quoted.push(at(i++).replace(/^ {0,3}> ?/, ""))
      out.push(<blockquote key={i}>{blocks(quoted, depth + 1)}</blockquote>)
    } else if (bullet.test(line) && depth < maxDepth) {
      const [, indent = "", number] = bullet.exec(line) ?? []
      const items: Array<Array<string>> = []
      while (i < lines.length) {
        const next = bullet.exec(at(i))
        if (next !== null && (next[1] ?? "").length <= indent.length) items.push([next[3] ?? ""])
        else if (at(i).trim() === "" && (bullet.test(at(i + 1)) || /^\s{2,}\S/.test(at(i + 1)))) items.at(-1)?.push("")
        else if (/^\s{2,}\S/.test(at(i)) || next !== null)
          items.at(-1)?.push(at(i).slice(Math.min(at(i).search(/\S/), indent.length + 2)))
        else break
        i++
      }
      const all = items.map((item, n) => (
        <li key={n}>{item.length === 1 ? inline(item[0] ?? "") : blocks(item, depth + 1)}</li>
      ))
      out.push(
        number === undefined ? (
          <ul key={i}>{all}</ul>
        ) : (
          <ol key={i} start={Number(number)}>
            {all}
          </ol>
        )
      )
    } else if (line.includes("|") && divider.test(at(i + 1))) {
      const head = cells(line)
      const rows: Array<ReadonlyArray<string>> = []
      i += 2
      while (i < lines.length && at(i).includes("|") && at(i).trim() !== "") rows.push(cells(at(i++)))
      out.push(
        <div class="scroll" key={i} tabIndex={0}>
          <table>
            <thead>
              <tr>
                {head.map((cell, n) => (
                  <th scope="col" key={n}>
                    {inline(cell)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row, n) => (
                <tr key={n}>
                  {head.map((_, k) => (
                    <td key={k}>{inline(row[k] ?? "")}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )
    } else {
      const text: Array<string> = []
      while (
        i < lines.length &&
        at(i).trim() !== "" &&
        (text.length === 0 ||
          !(
            fence.test(at(i)) ||
            heading.test(at(i)) ||
            rule.test(at(i)) ||
            /^ {0,3}>/.test(at(i)) ||
            bullet.test(at(i))
          ))
      )
        text.push(at(i++))
      out.push(<p key={i}>{inline(text.join("\n"))}</p>)
    }
  }
  return out
}

export const Markdown = ({ text }: { readonly text: string }) => {
  const shown = harmless(text)
  if (shown.length > maxLength) return <pre class="plain">{shown}</pre>
  return (
    <div class="markdown" dir="auto">
      {blocks(shown.split("\n"), 0)}
    </div>
  )
}
