// Everything here makes pages more convenient; none of it is needed to read them.
import { localFields, localTimes } from './times.js';
import { copyButtons } from './copy.js';
import { follow } from './live.js';
import { forms } from './forms.js';

localTimes(document);
localFields(document);
copyButtons(document);
forms();
follow(document.getElementById('main'));
