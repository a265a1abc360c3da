// Shows times in the viewer's zone, where the title keeps UTC, and reads them in it; the server has UTC alone.
const language = document.documentElement.lang;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const format = new Intl.DateTimeFormat(language, {
  day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});
const withYear = new Intl.DateTimeFormat(language, {
  day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});

export function localTimes(root) {
  const thisYear = new Date().getFullYear();
  for (const time of root.querySelectorAll('time[datetime]:not([title])')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.textContent;
    time.textContent = (at.getFullYear() === thisYear ? format : withYear).format(at);
  }
  const note = document.querySelector('[data-zone]');
  if (note) {
    note.hidden = false;
    note.querySelector('b').textContent = zone;
  }
}

export function localFields(root) {
  for (const field of root.querySelectorAll('input[type=datetime-local]')) {
    field.labels[0].querySelector('[data-utc]').remove();
    if (field.value) field.defaultValue = written(field.value, (text) => local(new Date(`${text}Z`)));
    field.form.addEventListener('formdata', ({ formData }) => {
      if (field.value) formData.set(field.name, written(field.value, (text) => new Date(text)));
    });
  }
}

// A time as such a field holds it, once it was read; what is no time stays, for the server to say so.
function written(text, read) {
  const at = read(text);
  return Number.isNaN(at.getTime()) ? text : at.toISOString().slice(0, text.length);
}

function local(at) {
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
}
